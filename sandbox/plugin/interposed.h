// Whether handlers of signals that this process sets from now on come to us first: host_signals.h relies on it.
#ifndef DUNEBOX_SANDBOX_PLUGIN_INTERPOSED_H_
#define DUNEBOX_SANDBOX_PLUGIN_INTERPOSED_H_

namespace dunebox::plugin {

// False where this code was opened by dlopen: then `sigaction` is the C library's for everybody else.
bool IsSigactionOurs();

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_INTERPOSED_H_
