# cmake [-DPACKAGES="a;b"] -P cmake/packages.cmake
# Installs the Debian packages that are missing. Needs root, or sudo without a password; without
# either it prints the line to run, and fails. On a machine without dpkg it does nothing: the
# configuration then fetches what it does not find.
if(NOT PACKAGES)
  set(PACKAGES make libhwy-dev libxsimd-dev libxtensor-dev libeigen3-dev nlohmann-json3-dev
    libcurl4-openssl-dev libcpp-httplib-dev libcli11-dev catch2 libbenchmark-dev)
endif()

find_program(DPKG_QUERY dpkg-query)
find_program(APT_GET apt-get)
if(NOT DPKG_QUERY OR NOT APT_GET)
  message(STATUS "No dpkg here: packages that are not found will be fetched as source")
  return()
endif()

set(missing "")
foreach(package IN LISTS PACKAGES)
  execute_process(COMMAND ${DPKG_QUERY} -W -f=\${db:Status-Status} ${package}
    OUTPUT_VARIABLE status ERROR_QUIET)
  if(NOT status STREQUAL "installed")
    list(APPEND missing ${package})
  endif()
endforeach()
if(NOT missing)
  return()
endif()
string(JOIN " " missing_line ${missing})

find_program(ID id)
execute_process(COMMAND ${ID} -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
set(root "")
if(NOT user STREQUAL "0")
  find_program(SUDO sudo)
  set(may_sudo 1)
  if(SUDO)
    execute_process(COMMAND ${SUDO} -n true RESULT_VARIABLE may_sudo OUTPUT_QUIET ERROR_QUIET)
  endif()
  if(NOT may_sudo EQUAL 0)
    message(FATAL_ERROR "These packages are missing, and this user may not install them. Run\n"
      "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing_line}\n"
      "and start again.")
  endif()
  set(root ${SUDO} -n)
endif()

set(apt ${root} env DEBIAN_FRONTEND=noninteractive ${APT_GET} -q -o DPkg::Lock::Timeout=300)
set(install ${apt} install -y --no-install-recommends ${missing})
message(STATUS "Installing ${missing_line}")
execute_process(COMMAND ${install} RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
if(failed)  # usually package lists that are absent or old
  message(STATUS "Updating the package lists first")
  execute_process(COMMAND ${apt} update OUTPUT_QUIET ERROR_VARIABLE reason)
  execute_process(COMMAND ${install} RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE reason)
endif()
if(failed)
  message(FATAL_ERROR "apt-get install ${missing_line} failed:\n${reason}")
endif()
