# Find first (Debian's packages), else fetch a pinned current version.
include(FetchContent)

# crayon_dependency(<name> <min> <repository> <tag> [TARGETS ...])
macro(crayon_dependency name min repository tag)
  FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW TRUE
    SYSTEM FIND_PACKAGE_ARGS ${min})
endmacro()
