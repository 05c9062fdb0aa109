# The package that find_package(crayon) finds: headers, targets, and the functions that make the
# rest in the user's own build.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(CRAYON_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/crayon)
install(TARGETS crayon EXPORT crayonTargets)
install(EXPORT crayonTargets NAMESPACE crayon:: DESTINATION ${CRAYON_PACKAGE_DIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/crayon DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.hpp" PATTERN "*.ipp")
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/crayonConfig.cmake.in
  ${PROJECT_BINARY_DIR}/crayonConfig.cmake INSTALL_DESTINATION ${CRAYON_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/crayonConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/crayonConfig.cmake
  ${PROJECT_BINARY_DIR}/crayonConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/CrayonDependencies.cmake
  ${PROJECT_SOURCE_DIR}/cmake/CrayonComponents.cmake
  ${PROJECT_SOURCE_DIR}/cmake/CrayonDispatch.cmake
  DESTINATION ${CRAYON_PACKAGE_DIR})
