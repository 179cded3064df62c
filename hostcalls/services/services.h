// Every handler of hostcalls/services, bound to its row.
//
//   HandlerTable handlers;
//   RegisterServiceHandlers(handlers);
#ifndef DUNEBOX_HOSTCALLS_SERVICES_SERVICES_H_
#define DUNEBOX_HOSTCALLS_SERVICES_SERVICES_H_

#include "hostcalls/dispatch/dispatcher.h"

namespace dunebox::hostcalls {

void RegisterServiceHandlers(HandlerTable& handlers);

}  // namespace dunebox::hostcalls

#endif  // DUNEBOX_HOSTCALLS_SERVICES_SERVICES_H_
