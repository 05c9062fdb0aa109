# The steps that the scripts demo.cmake and check.cmake are made of.
cmake_minimum_required(VERSION 3.25)
get_filename_component(CRAYON_SOURCE ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
cmake_host_system_information(RESULT CRAYON_CORES QUERY NUMBER_OF_LOGICAL_CORES)

# What follows "--" on the command line.
set(CRAYON_ARGUMENTS "")
set(collect FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(collect)
    list(APPEND CRAYON_ARGUMENTS "${CMAKE_ARGV${i}}")
  elseif("${CMAKE_ARGV${i}}" STREQUAL "--")
    set(collect TRUE)
  endif()
endforeach()

# crayon_run(<command>...) in the source directory; stops when it fails.
function(crayon_run)
  execute_process(COMMAND ${ARGV} WORKING_DIRECTORY ${CRAYON_SOURCE} RESULT_VARIABLE failed)
  if(failed)
    string(JOIN " " line ${ARGV})
    message(FATAL_ERROR "failed (${failed}): ${line}")
  endif()
endfunction()

function(crayon_packages)
  crayon_run(${CMAKE_COMMAND} -P ${CRAYON_SOURCE}/cmake/packages.cmake)
endfunction()

function(crayon_configure preset)
  crayon_run(${CMAKE_COMMAND} --preset ${preset} ${ARGN})
endfunction()

function(crayon_build preset)
  crayon_run(${CMAKE_COMMAND} --build --preset ${preset} --parallel ${CRAYON_CORES} ${ARGN})
endfunction()

function(crayon_test preset)
  find_program(CTEST ctest REQUIRED)
  crayon_run(${CTEST} --preset ${preset} --parallel ${CRAYON_CORES} ${ARGN})
  # What a test could not do here, for example without the shared data.
  file(STRINGS ${CRAYON_SOURCE}/build/${preset}/Testing/Temporary/LastTest.log skipped
    REGEX "^ *skipped[:,] ")
  list(REMOVE_DUPLICATES skipped)
  foreach(line IN LISTS skipped)
    string(STRIP "${line}" line)
    message(STATUS "${line}")
  endforeach()
endfunction()
