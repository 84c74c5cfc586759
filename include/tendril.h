/* SPDX-License-Identifier: Apache-2.0 */
/* Tendril: the one header that a C or C++ program needs. Each concept has a header of its own. */
#ifndef TENDRIL_H
#define TENDRIL_H

#include <tendril/agent.h>
#include <tendril/api.h>
#include <tendril/args.h>
#include <tendril/backend.h>
#include <tendril/device_map.h>
#include <tendril/engine.h>
#include <tendril/function.h>
#include <tendril/future.h>
#include <tendril/group.h>
#include <tendril/info.h>
#include <tendril/interceptor.h>
#include <tendril/log.h>
#include <tendril/options.h>
#include <tendril/rref.h>
#include <tendril/status.h>
#include <tendril/store.h>
#include <tendril/tensor.h>
#include <tendril/value.h>

#endif
