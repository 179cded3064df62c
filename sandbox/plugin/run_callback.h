// A function of the host's that the plugin has called: may not be left by an exception, which would go through frames
// that do not know of any and leave a guest thread borrowed for ever. One that tries ends the process, as at a noexcept
// (std::terminate).
//
//   RunCallback(callback, frame);
#ifndef DUNEBOX_SANDBOX_PLUGIN_RUN_CALLBACK_H_
#define DUNEBOX_SANDBOX_PLUGIN_RUN_CALLBACK_H_

#include "dunebox/call.h"

namespace dunebox::plugin {

void RunCallback(const internal::Callback& callback, internal::CallbackFrame& frame) noexcept;

}  // namespace dunebox::plugin

#endif  // DUNEBOX_SANDBOX_PLUGIN_RUN_CALLBACK_H_
