# crayon_add_dispatch() makes crayon::dispatch, the one copy of the kernels that choose their
# instruction set at run time (crayon/simd/highway_dynamic.hpp). Calling it again changes nothing.
# Works in this project and from the installed package: find_package(crayon), then call it.
include_guard(GLOBAL)

function(crayon_add_dispatch)
  if(TARGET crayon::dispatch)
    return()
  endif()
  if(NOT TARGET hwy::hwy)
    find_package(hwy QUIET)
  endif()
  if(NOT TARGET hwy::hwy)
    foreach(part TESTS EXAMPLES CONTRIB INSTALL)
      set(HWY_ENABLE_${part} OFF CACHE INTERNAL "")
    endforeach()
    include(FetchContent)
    FetchContent_Declare(hwy GIT_REPOSITORY https://github.com/google/highway GIT_TAG 1.4.0
      GIT_SHALLOW TRUE SYSTEM EXCLUDE_FROM_ALL)
    FetchContent_MakeAvailable(hwy)
    if(NOT TARGET hwy::hwy)
      add_library(hwy::hwy ALIAS hwy)
    endif()
  endif()

  set(source ${CMAKE_CURRENT_BINARY_DIR}/crayon_dispatch.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include <crayon/simd/dispatch.ipp>\n" @ONLY)
  add_library(crayon_dispatch STATIC ${source})
  add_library(crayon::dispatch ALIAS crayon_dispatch)
  target_link_libraries(crayon_dispatch PUBLIC crayon::crayon PRIVATE hwy::hwy)
endfunction()
