#include <crayon/crayon.hpp>
