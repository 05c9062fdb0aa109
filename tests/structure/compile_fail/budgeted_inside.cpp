// SPDX-License-Identifier: MIT
// expect: any_of does not ask all of its policies: budgeted, chance and oracle go around it
#include <crayon/router/any_of.hpp>
#include <crayon/router/budgeted.hpp>
#include <crayon/router/scope.hpp>

using crayon::router::any_of;
using crayon::router::budgeted;
using crayon::router::scope;

#ifdef CRAYON_BAD
any_of router(scope{2}, budgeted(scope{3}, 0.1));
#else
budgeted router(any_of(scope{2}, scope{3}), 0.1);
#endif
