# The targets that users link. crayon::crayon is the include path alone; each other target adds what
# the headers of one folder include from elsewhere.
add_library(crayon INTERFACE)
add_library(crayon::crayon ALIAS crayon)
target_include_directories(crayon INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_compile_features(crayon INTERFACE cxx_std_20)

# crayon_component(<name> <library>...) -> crayon::<name>
function(crayon_component name)
  add_library(crayon_${name} INTERFACE)
  add_library(crayon::${name} ALIAS crayon_${name})
  target_link_libraries(crayon_${name} INTERFACE crayon::crayon ${ARGN})
endfunction()

# Warnings for this project's own sources; never part of what a user links.
add_library(crayon_warnings INTERFACE)
target_compile_options(crayon_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion
  -Wsign-conversion -Wshadow -Wold-style-cast $<$<BOOL:${CRAYON_WARNINGS_AS_ERRORS}>:-Werror>)
