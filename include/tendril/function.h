/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions: what a worker lets others call by name.
 *
 * A function is registered under a schema, written in a subset of PyTorch's schema language:
 *
 *     ps::push(Tensor grad, *, float lr=0.1) -> int
 *
 * Types: Tensor, int (of 64 bits), float, complex, bool, Scalar (any of these four), str, bytes, Device, RRef, Any, a C
 * object by its type's name, as in replay::Buffer (see tdr_native), T[], T[N] (a list of N, or one T that stands for N of
 * them), T? (None is allowed), (T, U), Dict(K, V). An alias annotation, as in Tensor(a!), is read and has no effect. A
 * parameter may have a default (`=0.1`, `=None`, `=True`, `="text"`, `=[1, 2]`); those after `*` are taken by keyword only. `-> ()` returns nothing (None), `-> (Tensor values,
 * int count)` a tuple; without `->` anything may be returned. Functions that share a name differ by overload, as in
 * aten::add.Tensor; who calls aten::add gets the first that takes the arguments.
 *
 * A name that ends in a star, python::*, stands for every function of that namespace that is not registered by itself
 * (tdr_call_function_name tells which was asked for). `(...)` in place of the parameters takes all arguments as they
 * come: argument 0 is a tuple or list of those given by position, argument 1 a dict of those given by keyword.
 *
 * Arguments are checked before the function runs, so that its readers below cannot fail: an int is taken where a float
 * is wanted, 0 and 1 where a bool is, a float or int where a complex is, "cuda:0" where a Device is, a list for a tuple
 * and the reverse. A bool is not taken for an int.
 */
#ifndef TENDRIL_FUNCTION_H
#define TENDRIL_FUNCTION_H

#include <tendril/future.h>
#include <tendril/value.h>

/* One call as its function sees it. Valid until the function returns, or longer by tdr_call_ref. */
typedef struct tdr_call tdr_call;

/*
 * A function. It returns TDR_OK after one of tdr_return..., or an error: tdr_fail(call, ...), or any status, for which
 * tdr_last_error() is the text. TDR_OK without a return returns None.
 */
typedef tdr_status (*tdr_function)(tdr_call *call, void *context);

enum {
	TDR_FUNCTION_INLINE = 1 << 0, /* never blocks: runs in the thread that received the call, without a hand-off */
	TDR_FUNCTION_IDEMPOTENT = 1 << 1, /* running it twice is as good as once */
};

TDR_BEGIN_DECLS

/* ---- the call ---- */

/* Keeps the call beyond the function's return, so that it can be returned from later (see tdr_call_defer). */
TDR_API tdr_call *tdr_call_ref(tdr_call *call);
TDR_API tdr_call *tdr_call_unref(tdr_call *call);

/*
 * The function will return from this call later, from any thread, by tdr_return... or tdr_fail; it may return TDR_OK and
 * leave the thread free now. Dropping the last reference without a return fails the call.
 */
TDR_API void tdr_call_defer(tdr_call *call);

/* Who calls: the worker's name and id. */
TDR_API const char *tdr_call_worker_name(const tdr_call *call);
TDR_API uint32_t tdr_call_worker_id(const tdr_call *call);

/* The function's full name. */
TDR_API const char *tdr_call_function_name(const tdr_call *call);

/* Milliseconds left until the caller gives up; INT64_MAX if it never does, 0 if it has. */
TDR_API int64_t tdr_call_time_left_ms(const tdr_call *call);

/* Whether the caller has cancelled the call or given up: a long function looks now and then. */
TDR_API bool tdr_call_cancelled(const tdr_call *call);

/* ---- arguments, by position in the schema; they are checked, so these cannot fail (a wrong index asserts) ---- */

TDR_API size_t tdr_arg_count(const tdr_call *call);
TDR_API tdr_value *tdr_arg(const tdr_call *call, size_t index);         /* borrowed from the call, as all that follow */
TDR_API tdr_tensor *tdr_arg_tensor(const tdr_call *call, size_t index); /* NULL for None */
TDR_API int64_t tdr_arg_int(const tdr_call *call, size_t index);        /* 0 for None */
TDR_API double tdr_arg_float(const tdr_call *call, size_t index);       /* 0 for None */
TDR_API bool tdr_arg_bool(const tdr_call *call, size_t index);          /* false for None */
TDR_API const char *tdr_arg_string(const tdr_call *call, size_t index); /* NULL for None */
TDR_API tdr_rref *tdr_arg_rref(const tdr_call *call, size_t index);     /* NULL for None */
TDR_API void *tdr_arg_native(const tdr_call *call, size_t index);       /* the C object; NULL for None */
TDR_API bool tdr_arg_is_none(const tdr_call *call, size_t index);

/* ---- returning: exactly once a call; a second time is TDR_ESTATE ---- */

/* `value` is given away; it is checked against the schema's return type. */
TDR_API tdr_status tdr_return(tdr_call *call, tdr_value *value);
TDR_API tdr_status tdr_return_none(tdr_call *call);
TDR_API tdr_status tdr_return_bool(tdr_call *call, bool truth);
TDR_API tdr_status tdr_return_int(tdr_call *call, int64_t number);
TDR_API tdr_status tdr_return_float(tdr_call *call, double number);
TDR_API tdr_status tdr_return_string(tdr_call *call, const char *text);
TDR_API tdr_status tdr_return_tensor(tdr_call *call, tdr_tensor *tensor); /* borrowed */

/*
 * An asynchronous function: the call returns what `future` (borrowed) completes with, and the thread is free meanwhile. A
 * cancelled call cancels the future.
 */
TDR_API tdr_status tdr_return_future(tdr_call *call, tdr_future *future);

/* Fails the call with a text, and returns `status`: `return tdr_fail(call, TDR_EINVAL, "no layer %d", n);` */
TDR_API tdr_status tdr_fail(tdr_call *call, tdr_status status, const char *format, ...) TDR_PRINTF(3, 4);

/*
 * The same with all that an error may carry: the remote traceback (copied; NULL: none), and a value that lets the caller make
 * more of it (given away; NULL: none; see tdr_future_detail), such as a pickled exception.
 */
TDR_API tdr_status tdr_call_fail(tdr_call *call, tdr_status status, const char *text, const char *traceback,
                                 tdr_value *detail);

TDR_END_DECLS

#endif
