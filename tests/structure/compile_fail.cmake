# Compiles CASE twice: as it stands, which must work, and with CRAYON_BAD defined, which must fail
# with a message that matches each line "// expect: <regular expression>" of the file.
cmake_minimum_required(VERSION 3.25)
set(command ${CXX} -std=c++20 -fsyntax-only -I${INCLUDE})
if(EXTRA)
  list(APPEND command ${EXTRA})
endif()

execute_process(COMMAND ${command} ${CASE} RESULT_VARIABLE status ERROR_VARIABLE text)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "the good variant does not compile:\n${text}")
endif()

execute_process(COMMAND ${command} -DCRAYON_BAD ${CASE} RESULT_VARIABLE status
  ERROR_VARIABLE text)
if(status EQUAL 0)
  message(FATAL_ERROR "the bad variant compiles")
endif()

file(STRINGS ${CASE} expected REGEX "^// expect: ")
if(NOT expected)
  message(FATAL_ERROR "${CASE} expects no message")
endif()
foreach(line IN LISTS expected)
  string(REPLACE "// expect: " "" pattern "${line}")
  if(NOT text MATCHES "${pattern}")
    message(FATAL_ERROR "no \"${pattern}\" in the compiler's message:\n${text}")
  endif()
endforeach()
