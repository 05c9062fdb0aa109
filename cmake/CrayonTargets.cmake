# The targets that users link. crayon::crayon is the include path alone.
add_library(crayon INTERFACE)
add_library(crayon::crayon ALIAS crayon)
target_include_directories(crayon INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_compile_features(crayon INTERFACE cxx_std_20)
