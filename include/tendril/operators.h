/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Built-in tensor operators, under PyTorch's names, for CPU tensors of f32, f64, i64 and bool: a library of its own
 * (libtendril-operators). docs/operators.md lists their schemas.
 */
#ifndef TENDRIL_OPERATORS_H
#define TENDRIL_OPERATORS_H

#include <tendril/agent.h>

TDR_BEGIN_DECLS

/* Registers all of them with an agent. Errors: as tdr_register. */
TDR_API TDR_MUST_USE tdr_status tdr_register_operators(tdr_agent *agent);

TDR_END_DECLS

#endif
