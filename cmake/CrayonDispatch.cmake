# crayon_add_dispatch() makes crayon::dispatch, the one copy of the kernels that choose their
# instruction set at run time (crayon/simd/highway_dynamic.hpp). Calling it again changes nothing.
# Works in this project and, after find_package(crayon), in others. CrayonDependencies.cmake comes
# first.
include_guard(GLOBAL)

function(crayon_add_dispatch)
  if(NOT TARGET crayon::dispatch)
    crayon_depend(hwy)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/crayon_dispatch.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include <crayon/simd/dispatch.ipp>\n" @ONLY)
    add_library(crayon_dispatch STATIC ${source})
    add_library(crayon::dispatch ALIAS crayon_dispatch)
    target_link_libraries(crayon_dispatch PUBLIC crayon::crayon PRIVATE hwy::hwy)
  endif()
endfunction()
