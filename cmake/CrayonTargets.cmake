# The targets of this project. crayon::crayon is the include path alone, and all that an integrator
# with the scalar backend needs.
add_library(crayon INTERFACE)
add_library(crayon::crayon ALIAS crayon)
target_include_directories(crayon INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_compile_features(crayon INTERFACE cxx_std_20)

# Warnings for this project's own sources; never part of what a user links.
add_library(crayon_warnings INTERFACE)
# -Wno-restrict: g++ 12 warns of memcpy inside std::string's operator+ (GCC bug 105651).
target_compile_options(crayon_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion
  -Wsign-conversion -Wshadow -Wold-style-cast $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${CRAYON_WARNINGS_AS_ERRORS}>:-Werror>)

if(CRAYON_BUILD_EXAMPLES OR CRAYON_BUILD_TESTS OR CRAYON_BUILD_BENCHMARKS)
  foreach(component simd io blend match serve interop threads)
    crayon_component(${component})
  endforeach()
  include(CrayonDispatch OPTIONAL RESULT_VARIABLE CRAYON_DISPATCH_FILE)
  if(CRAYON_DISPATCH_FILE)
    crayon_add_dispatch()
    # Inlining makes these kernels; without it they run a hundred times as long.
    # All instruction sets under both sanitizers are 5 minutes of compiling, under the address
    # sanitizer alone 2; the undefined-behaviour sanitizer sees the same kernels in tests/simd.
    target_compile_options(crayon_dispatch PRIVATE
      "$<$<CONFIG:Debug>:-O1;-fno-sanitize=undefined>")
  endif()
endif()
