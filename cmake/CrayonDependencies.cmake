# Third-party packages, each looked for once: an installed one first, else a pinned current version.
# Nothing is looked for that nothing asks for.
include(FetchContent)

# crayon_find_or_fetch(<package> <min> <repository> <tag>)
# An installed package older than <min> counts as absent. (find_package's own version argument would
# also refuse newer majors.)
macro(crayon_find_or_fetch package min repository tag)
  find_package(${package} QUIET)
  set(crayon_found_version "${${package}_VERSION}${${package}_VERSION_STRING}")
  if(${package}_FOUND AND NOT crayon_found_version VERSION_LESS ${min})
    message(STATUS "crayon: ${package} ${crayon_found_version} found")
  else()
    message(STATUS "crayon: ${package} >= ${min} not installed, fetching ${tag}")
    crayon_fetch(${package} ${repository} ${tag})
  endif()
endmacro()

macro(crayon_fetch package repository tag)
  FetchContent_Declare(${package} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW TRUE
    SYSTEM EXCLUDE_FROM_ALL)
  FetchContent_MakeAvailable(${package})
endmacro()

# crayon_depend(<package>...): makes the packages' targets available in the calling directory.
macro(crayon_depend)
  foreach(package ${ARGN})
    cmake_language(CALL crayon_depend_${package})
  endforeach()
endmacro()

macro(crayon_depend_threads)
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_package(Threads REQUIRED)
endmacro()

macro(crayon_depend_hwy)
  set(HWY_ENABLE_TESTS OFF CACHE INTERNAL "")
  set(HWY_ENABLE_EXAMPLES OFF CACHE INTERNAL "")
  set(HWY_ENABLE_CONTRIB OFF CACHE INTERNAL "")
  set(HWY_ENABLE_INSTALL OFF CACHE INTERNAL "")
  crayon_find_or_fetch(hwy 1.0.3 https://github.com/google/highway 1.4.0)
  if(NOT TARGET hwy::hwy)
    add_library(hwy::hwy ALIAS hwy)
  endif()
endmacro()

macro(crayon_depend_xsimd)
  crayon_find_or_fetch(xsimd 8.1.0 https://github.com/xtensor-stack/xsimd 14.3.0)
endmacro()

# xtensor wants the xtl of its own time: both installed, or both fetched.
macro(crayon_depend_xtensor)
  find_package(xtensor QUIET)
  if(NOT xtensor_FOUND OR xtensor_VERSION VERSION_LESS 0.24.3)
    crayon_fetch(xtl https://github.com/xtensor-stack/xtl 0.8.2)
  endif()
  crayon_find_or_fetch(xtensor 0.24.3 https://github.com/xtensor-stack/xtensor 0.27.1)
endmacro()

macro(crayon_depend_eigen)
  set(EIGEN_BUILD_DOC OFF CACHE INTERNAL "")
  set(EIGEN_BUILD_TESTING OFF CACHE INTERNAL "")
  crayon_find_or_fetch(Eigen3 3.4.0 https://gitlab.com/libeigen/eigen 3.4.0)
endmacro()

macro(crayon_depend_json)
  set(JSON_BuildTests OFF CACHE INTERNAL "")
  crayon_find_or_fetch(nlohmann_json 3.11.0 https://github.com/nlohmann/json v3.12.0)
endmacro()

# No cookies, hence no list of public suffixes, which it would insist on.
macro(crayon_depend_curl)
  foreach(option BUILD_CURL_EXE BUILD_LIBCURL_DOCS BUILD_MISC_DOCS ENABLE_CURL_MANUAL
      CURL_USE_LIBPSL CURL_USE_LIBSSH2)
    set(${option} OFF CACHE INTERNAL "")
  endforeach()
  set(HTTP_ONLY ON CACHE INTERNAL "")
  set(CURL_DISABLE_INSTALL ON CACHE INTERNAL "")
  crayon_find_or_fetch(CURL 7.80.0 https://github.com/curl/curl curl-8_15_0)
endmacro()

# Debian ships cpp-httplib as a compiled library without a CMake package; its header must be read
# with the options that the library was built with.
macro(crayon_depend_httplib)
  if(NOT TARGET httplib::httplib)
    find_path(CRAYON_HTTPLIB_INCLUDE httplib.h)
    find_library(CRAYON_HTTPLIB_LIBRARY cpp-httplib)
    mark_as_advanced(CRAYON_HTTPLIB_INCLUDE CRAYON_HTTPLIB_LIBRARY)
    find_package(OpenSSL QUIET)
    find_package(ZLIB QUIET)
    if(CRAYON_HTTPLIB_INCLUDE AND CRAYON_HTTPLIB_LIBRARY AND OPENSSL_FOUND AND ZLIB_FOUND)
      message(STATUS "crayon: httplib found (${CRAYON_HTTPLIB_LIBRARY})")
      add_library(crayon_httplib INTERFACE)
      add_library(httplib::httplib ALIAS crayon_httplib)
      target_include_directories(crayon_httplib SYSTEM INTERFACE ${CRAYON_HTTPLIB_INCLUDE})
      target_compile_definitions(crayon_httplib INTERFACE CPPHTTPLIB_OPENSSL_SUPPORT
        CPPHTTPLIB_ZLIB_SUPPORT CPPHTTPLIB_BROTLI_SUPPORT)
      target_link_libraries(crayon_httplib INTERFACE ${CRAYON_HTTPLIB_LIBRARY} OpenSSL::SSL
        OpenSSL::Crypto ZLIB::ZLIB)
    else()
      set(HTTPLIB_INSTALL OFF CACHE INTERNAL "")
      crayon_find_or_fetch(httplib 0.11.0 https://github.com/yhirose/cpp-httplib v0.26.0)
    endif()
  endif()
endmacro()

macro(crayon_depend_cli11)
  crayon_find_or_fetch(CLI11 2.1.0 https://github.com/CLIUtils/CLI11 v2.5.0)
endmacro()

macro(crayon_depend_catch2)
  crayon_find_or_fetch(Catch2 2.13.0 https://github.com/catchorg/Catch2 v3.8.1)
endmacro()

macro(crayon_depend_benchmark)
  set(BENCHMARK_ENABLE_TESTING OFF CACHE INTERNAL "")
  set(BENCHMARK_ENABLE_INSTALL OFF CACHE INTERNAL "")
  crayon_find_or_fetch(benchmark 1.7.0 https://github.com/google/benchmark v1.9.4)
endmacro()
