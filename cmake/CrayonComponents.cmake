# What the headers of each folder include from elsewhere, as a target per folder.
crayon_depend(threads hwy xsimd xtensor json curl httplib eigen)

crayon_component(simd hwy::hwy xsimd)
crayon_component(io nlohmann_json::nlohmann_json)
crayon_component(blend Eigen3::Eigen)
crayon_component(serve crayon::io CURL::libcurl httplib::httplib Threads::Threads)
crayon_component(interop xtensor)

# crayon::dispatch: the one copy of the run-time dispatched kernels.
include(CrayonDispatch OPTIONAL RESULT_VARIABLE CRAYON_DISPATCH_FILE)
if(CRAYON_DISPATCH_FILE)
  crayon_add_dispatch()
endif()
