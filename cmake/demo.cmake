# cmake -P cmake/demo.cmake [-- <arguments of crayon demo>]
# Installs what is missing, builds the crayon program and runs its demo.
include(${CMAKE_CURRENT_LIST_DIR}/script.cmake)
crayon_packages()
crayon_configure(release -DCRAYON_BUILD_TESTS=OFF -DCRAYON_BUILD_BENCHMARKS=OFF)
crayon_build(release --target crayon_cli)
crayon_run(${CRAYON_SOURCE}/build/release/bin/crayon demo ${CRAYON_ARGUMENTS})
