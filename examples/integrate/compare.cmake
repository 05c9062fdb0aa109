# Runs PROGRAM in FOLDER; its output must be expected.txt.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${PROGRAM} WORKING_DIRECTORY ${FOLDER} OUTPUT_VARIABLE output
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "exit status ${status}")
endif()
file(READ ${CMAKE_CURRENT_LIST_DIR}/expected.txt expected)
if(NOT output STREQUAL expected)
  message(FATAL_ERROR "expected\n${expected}\ngot\n${output}")
endif()
