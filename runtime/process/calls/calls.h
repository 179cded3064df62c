// System calls whose subject is the runtime's own state: memory map, signals, threads. Families
// register like those of hostcalls/services; a handler finds its thread with GuestThread::From.
#ifndef DUNEBOX_RUNTIME_PROCESS_CALLS_CALLS_H_
#define DUNEBOX_RUNTIME_PROCESS_CALLS_CALLS_H_

#include "hostcalls/dispatch/dispatcher.h"

namespace dunebox::process {

void RegisterMemoryHandlers(hostcalls::HandlerTable& handlers);
void RegisterMemoryNodeHandlers(hostcalls::HandlerTable& handlers);
void RegisterSignalHandlers(hostcalls::HandlerTable& handlers);
void RegisterMaskedWaitHandlers(hostcalls::HandlerTable& handlers);
void RegisterThreadHandlers(hostcalls::HandlerTable& handlers);
void RegisterCloneHandlers(hostcalls::HandlerTable& handlers);
void RegisterExecHandlers(hostcalls::HandlerTable& handlers);

}  // namespace dunebox::process

#endif  // DUNEBOX_RUNTIME_PROCESS_CALLS_CALLS_H_
