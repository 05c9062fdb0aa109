# What the headers of each folder include from elsewhere, as one target per folder. Read by this
# project and by the installed package. CrayonDependencies.cmake comes first.

# crayon_component(<folder>) -> crayon::<folder>
macro(crayon_component folder)
  if(NOT TARGET crayon_${folder})
    if("${folder}" STREQUAL "simd")
      crayon_depend(hwy xsimd)
      crayon_link_component(simd hwy::hwy xsimd)
    elseif("${folder}" STREQUAL "io")
      crayon_depend(json)
      crayon_link_component(io nlohmann_json::nlohmann_json)
    elseif("${folder}" STREQUAL "serve")
      crayon_depend(json curl httplib threads)
      crayon_link_component(serve nlohmann_json::nlohmann_json CURL::libcurl httplib::httplib
        Threads::Threads)
    elseif("${folder}" STREQUAL "interop")
      crayon_depend(xtensor)
      crayon_link_component(interop xtensor)
    elseif("${folder}" STREQUAL "threads")
      crayon_depend(threads)
      crayon_link_component(threads Threads::Threads)
    else()
      message(FATAL_ERROR "crayon has no component ${folder}")
    endif()
  endif()
endmacro()

function(crayon_link_component folder)
  add_library(crayon_${folder} INTERFACE)
  add_library(crayon::${folder} ALIAS crayon_${folder})
  target_link_libraries(crayon_${folder} INTERFACE crayon::crayon ${ARGN})
endfunction()
