#include "hostcalls/services/services.h"

#include "hostcalls/services/descriptors.h"
#include "hostcalls/services/futex.h"
#include "hostcalls/services/ioctl.h"
#include "hostcalls/services/ipc_control.h"
#include "hostcalls/services/limits.h"
#include "hostcalls/services/memory_files.h"
#include "hostcalls/services/messages.h"
#include "hostcalls/services/open.h"
#include "hostcalls/services/poll.h"
#include "hostcalls/services/proc_views.h"
#include "hostcalls/services/process_misc.h"
#include "hostcalls/services/socket_options.h"
#include "hostcalls/services/sockets.h"
#include "hostcalls/services/timers.h"

namespace dunebox::hostcalls {

void RegisterServiceHandlers(HandlerTable& handlers) {
  RegisterOpenHandlers(handlers);
  RegisterProcViewHandlers(handlers);
  RegisterDescriptorHandlers(handlers);
  RegisterPollHandlers(handlers);
  RegisterIoctlHandlers(handlers);
  RegisterMessageHandlers(handlers);
  RegisterSocketHandlers(handlers);
  RegisterSocketOptionHandlers(handlers);
  RegisterLimitHandlers(handlers);
  RegisterFutexHandlers(handlers);
  RegisterMemoryFileHandlers(handlers);
  RegisterTimerHandlers(handlers);
  RegisterIpcControlHandlers(handlers);
  RegisterProcessMiscHandlers(handlers);
}

}  // namespace dunebox::hostcalls
