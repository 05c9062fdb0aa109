# Installs the build tree BUILD into a directory of its own and uses it from another project:
# through find_package without and with the dispatch target, and as a bare include path.
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE err)
  if(NOT status EQUAL 0)
    string(JOIN " " line ${ARGV})
    message(FATAL_ERROR "${line}\n${out}\n${err}")
  endif()
  set(output "${out}" PARENT_SCOPE)
endfunction()

function(expect text)
  if(NOT output MATCHES "${text}")
    message(FATAL_ERROR "expected \"${text}\", got\n${output}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${CONSUMER} -B ${WORK}/build -DCMAKE_PREFIX_PATH=${prefix}
  -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release)
# The consumer saw the installed package, not the source tree.
file(STRINGS ${WORK}/build/CMakeCache.txt found REGEX "^crayon_DIR:PATH=")
if(NOT found MATCHES "${prefix}")
  message(FATAL_ERROR "found another crayon: ${found}")
endif()
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/plain)
expect("scalar 14")
run(${WORK}/build/dispatched)
expect("highway_dynamic/[A-Z0-9_]+ 14")

run(${CXX} -std=c++20 -I${prefix}/include ${CONSUMER}/plain.cpp -o ${WORK}/bare)
run(${WORK}/bare)
expect("scalar 14")
