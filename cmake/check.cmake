# cmake -P cmake/check.cmake [-- <arguments of the configuration>]
# Installs what is missing, builds everything but the benchmarks with g++ and runs all tests.
include(${CMAKE_CURRENT_LIST_DIR}/script.cmake)
crayon_packages()
crayon_configure(release -DCRAYON_BUILD_BENCHMARKS=OFF ${CRAYON_ARGUMENTS})
crayon_build(release)
crayon_test(release)
