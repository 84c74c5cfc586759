/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the extension module `tendril._C` share.
 *
 * The one rule of locking: the GIL is never held in a call of the library that may wait, or that may run somebody's callback
 * and wait for it. What the library calls back (functions, callbacks, destructors) takes the GIL by python_enter, which says
 * no once the interpreter is going down: then it returns, and touches nothing of Python's.
 *
 * Unless its comment says otherwise, a function below is called with the GIL held, and one that returns NULL, false or -1 has
 * set a Python exception.
 */
#ifndef TENDRIL_PYTHON_EXT_H
#define TENDRIL_PYTHON_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <tendril.h>

/* A method that takes keywords, for a PyMethodDef. */
#define KEYWORD_METHOD(function) ((PyCFunction)(void (*)(void))(function))

/* ---- gil.c: threads of the library's, and Python ---- */

/*
 * Takes the GIL, in any thread, also in one that has it. False: the interpreter is going down, or this is a child made by
 * fork() in which the library's handles are inert; then there is nothing to leave. A thread of the library's keeps one
 * PyThreadState from its first time to its end.
 */
bool python_enter(PyGILState_STATE *ret_state);
void python_leave(PyGILState_STATE state);

/* Whether the interpreter is going down, so that objects of the library's had better be left alone. Any thread. */
bool python_is_closing(void);

/* Whether this thread is the one that Python's signal handlers run in. Any thread. */
bool python_is_main_thread(void);

/*
 * Drops a reference to an object, from any thread: at once where it has the GIL; else soon, in a thread in which a finalizer may
 * block, and without waiting for the GIL here. Does nothing once the interpreter goes down.
 */
void python_decref(PyObject *object);

/*
 * Drops a reference to a handle by `unref`. Once an agent has ended, the last handle of its may end an engine, and wait for its
 * threads, which may want the GIL: then, and never otherwise, the GIL is let go meanwhile.
 */
void drop_handle(void (*unref)(void *handle), void *handle);

/* An agent is about to end. */
void engines_may_end(void);

/* enable_gil_profiling(flag): whether to measure how long python_enter waits; and what was measured, into a dict. */
PyObject *enable_gil_profiling(PyObject *module, PyObject *flag);
bool add_gil_wait(PyObject *info);

/* For atexit: closes the gate that python_enter passes. */
PyObject *python_close(PyObject *module, PyObject *unused);

/* Once, when the module is imported. */
void gil_init(void);

/* ---- hands.c: threads for what may block ---- */

/*
 * Runs `work` once, soon, in a thread of the extension's, which may block: the library's own threads that complete futures may
 * not. False, without an exception, where no thread can be made. Any thread, with the GIL or without.
 */
bool hands_run(void (*work)(void *context), void *context);

/*
 * Runs `work` without the GIL, and waits for it. In the main thread the wait can be ended by a signal whose handler raises (Ctrl-C):
 * then -1, and `work` goes on by itself; `release` (may be NULL) is called once when both are done with `context`, without the
 * GIL. 0: it has run, and `context` is still there; the caller calls `release` itself.
 */
int run_interruptibly(void (*work)(void *context), void *context, void (*release)(void *context));

/* ---- module.c: errors and hooks ---- */

/* Which exceptions of the far side are raised as what they were. */
enum error_style {
	ERROR_OF_CALL,  /* ValueError and TypeError; all others become RuntimeError */
	ERROR_OF_VALUE, /* all: who fetches a reference sees what its function raised */
};

/*
 * Sets the exception for a status: RuntimeError with `text` (NULL: tdr_last_error()) and an attribute `status`, such as
 * "TDR_ETIMEDOUT"; or the exception that came in `detail` (borrowed, may be NULL; made by exception_detail), with the far
 * side's traceback as its cause. Returns NULL.
 */
PyObject *raise_status(tdr_status status, const char *text, const char *traceback, tdr_value *detail,
                       enum error_style style);

/* The same for the error of a completed future. */
PyObject *raise_outcome(tdr_future *future, enum error_style style);

/* The same for the calling thread's last failure. */
PyObject *raise_last(tdr_status status);

/* The same where the library gave NULL in place of a future or a reference: no memory, or a handle of a parent process. */
PyObject *raise_null(void);

/*
 * Takes the exception that is set, and describes it for who called: `ret_text` "{TypeName}: {message}" and `ret_traceback` (both
 * to be freed with PyMem_RawFree; NULL for lack of memory), and the exception itself as a value (NULL where it cannot be
 * pickled). No exception is set afterwards.
 */
void exception_take(char **ret_text, char **ret_traceback, tdr_value **ret_detail);

/* The same of an exception instance. */
void exception_describe(PyObject *exception, char **ret_text, char **ret_traceback, tdr_value **ret_detail);

/*
 * What Python modules have given by `_C.set_hooks(name=callable)`; a new reference, or NULL without an exception. Names: see
 * hook_names in module.c.
 */
PyObject *hook_get(const char *name);

/* Seconds as Python has them (-1: the default, 0: never) in milliseconds; false: an exception. Other negative ones stay so. */
bool timeout_from_python(double seconds, int64_t *ret_timeout_ms);

/* ---- convert.c, tensor.c, pickle.c [values] ---- */

/*
 * The value of an object, where it is plain: None, bool, int, float, complex, str, bytes, list, tuple, dict, set (exactly these
 * types), numpy arrays and scalars, torch tensors (strided, on the CPU; no copy), PyRRef, and nests of these without shared or
 * cyclic containers. NULL with *ret_plain false and no exception: it is not plain. NULL with *ret_plain true: an exception.
 */
tdr_value *value_from_python(PyObject *object, bool *ret_plain);

/* Any object as a value: pickled, with tensors and references beside the bytes. python_from_value gives the object back. */
tdr_value *pickled_from_python(PyObject *object);

/*
 * The object of a value: of a plain one, of what pickled_from_python made, and of an object of this process (value_of_object),
 * which is the very object. `value` is borrowed.
 */
PyObject *python_from_value(tdr_value *value);

/*
 * Arguments of a call: a tuple value and a dict value (NULL: none), typed where all of them are plain, otherwise pickled as one.
 * `args` is a tuple or list, `kwargs` a dict or NULL. False: an exception.
 */
bool arguments_from_python(PyObject *args, PyObject *kwargs, tdr_value **ret_args, tdr_value **ret_kwargs);

/*
 * The same for functions with schemas, which others than Python may have: what is plain is so that they take it, all else is
 * pickled by itself, and goes where a schema says Any or object.
 */
tdr_value *schema_value_from_python(PyObject *object);
bool schema_arguments_from_python(PyObject *args, PyObject *kwargs, tdr_value **ret_args, tdr_value **ret_kwargs);

/* The reverse: a new tuple and a new dict (NULL: none). `args` and `kwargs` are borrowed and may be NULL. */
bool arguments_to_python(tdr_value *args, tdr_value *kwargs, PyObject **ret_args, PyObject **ret_kwargs);

/* Values (borrowed) of one message as a tuple: those that view one memory still do. */
PyObject *tuple_from_values(size_t count, tdr_value *const values[]);

/*
 * Bytes of a user's pickler (with the tensors that go beside them, a sequence, and references, a sequence of PyRRef; NULL: none) as
 * the value that pickled_from_python would give.
 */
tdr_value *value_from_payload(PyObject *bytes, PyObject *tensors, PyObject *rrefs);

/* Adds types and functions of their own to the module. 0, or -1. Called once. */
int convert_init(PyObject *module);

/* ---- store.c [stores] ---- */

/*
 * The store behind a Python object: one of the module's own, or an adapter around any object that has a store's methods. A new
 * reference. NULL: TypeError and so on.
 */
tdr_store *store_from_python(PyObject *object);

/* Adds the store types to the module. 0, or -1. Called once. */
int store_init(PyObject *module);

/* ---- worker.c ---- */

extern PyTypeObject *worker_type;

/* A WorkerInfo. */
PyObject *worker_object(const tdr_worker *worker);
bool worker_check(PyObject *object);
const char *worker_name(PyObject *worker); /* borrowed */
int worker_init(PyObject *module);

/* ---- future.c ---- */

extern PyTypeObject *future_type;

/* A Future that completes as `future` (borrowed) does. */
PyObject *future_object(tdr_future *future, enum error_style style);

/* A Future to be completed by future_set and future_fail. */
PyObject *future_new(void);
bool future_check(PyObject *object);

/* Completes it, unless that has happened; callbacks run before it returns. `result` is borrowed, as is `exception`. */
void future_set(PyObject *future, PyObject *result);
void future_fail(PyObject *future, PyObject *exception);

/* The main thread looks for signals this often while it waits for the library, in milliseconds. */
#define SIGNAL_SLICE_MS 50

/*
 * Waits for `future` (borrowed) without the GIL, up to `timeout_ms` (TDR_TIMEOUT_NEVER: as long as it takes); a signal's handler may
 * end it. 1: it has completed; 0: the time is up; -1: an exception.
 */
int wait_for(tdr_future *future, int64_t timeout_ms);

/* The result of a completed `future` as an object, or its error as an exception. */
PyObject *result_of(tdr_future *future, enum error_style style);

/*
 * Has `done` called with the completed Future and `context`, with the GIL held, from any thread; at once if it is completed. Where the
 * Future goes without having completed, `done` is called with NULL. It must not block. 0, or -1 with an exception (then `done` is not
 * called).
 */
int future_on_done(PyObject *future, void (*done)(PyObject *future, void *context), void *context);

/* The same for a `done` that may block. */
int future_on_done_may_block(PyObject *future, void (*done)(PyObject *future, void *context), void *context);

/* Whether an object is a Future, or has what a future of another make has: add_done_callback() and value(). */
bool future_like(PyObject *object);

/* Of a completed Future: its result (a new reference), or NULL with its exception set. */
PyObject *future_result(PyObject *future);
int future_init(PyObject *module);

/* Tells the future of a call that nobody has asked about from those that are nobody's business: see unheard.c. */
void future_expect(PyObject *future);

/* ---- unheard.c: failed calls that nobody has asked about ---- */

/*
 * A place in the list of calls that nobody has asked about, a part of a Future or a PyRRef; zeroed: it is not in the list. What the
 * library completes has a `call`; what a program completes has a text: what is called, and from unheard_fail on how it has failed.
 */
struct unheard {
	struct unheard *next, **link;
	tdr_future *call; /* counted */
	char *text;
	bool failed;
};

void unheard_add(struct unheard *self, tdr_future *call);

/* False: no memory, and an exception. */
bool unheard_add_text(struct unheard *self, const char *text);

/* What a program completes has failed. Does nothing outside the list. Calls str(), and keeps no exception of its. */
void unheard_fail(struct unheard *self, PyObject *exception);

/* Somebody has asked. Does nothing outside the list. */
void unheard_remove(struct unheard *self);

/* Leaves the list, as what it is a part of does the world; unheard_abandon is to be called with what it returns. */
struct unheard unheard_take(struct unheard *self);

/* Nobody can ask about the call any more: its failure is counted, now or when it fails. Drops what is left of it. */
void unheard_abandon(struct unheard taken);
int unheard_init(PyObject *module);

/* ---- rref.c ---- */

extern PyTypeObject *rref_type;

/* A PyRRef. Takes over the reference to `rref`, also when it fails. */
PyObject *rref_object(tdr_rref *rref);

/* The same of what rpc.remote() has made: its uses fail once the time for its creation is over. */
PyObject *rref_object_of_remote(tdr_rref *rref);
bool rref_check(PyObject *object);
tdr_rref *rref_of(PyObject *rref); /* borrowed; NULL with an exception where it is none */

/* The same where it is about to be sent: RuntimeError for one whose creation got lost. */
tdr_rref *rref_to_send(PyObject *object);
int rref_init(PyObject *module);

/* ---- rref_form.c: methods of PyRRef ---- */

PyObject *rref_serialize(PyObject *self, PyObject *unused);
PyObject *rref_deserialize(PyObject *unused, PyObject *tuple);

/* ---- serve.c: Python functions as functions of the library's ---- */

/* Lets others call Python functions of this process by `python::module:qualname`. The agent has not joined. 0, or -1. */
int serve_python(tdr_agent *agent);

/* Lets others call `callable` under a schema of its own. 0, or -1. */
int serve_callable(tdr_agent *agent, const char *schema, PyObject *callable);

/*
 * Lets others call all functions `prefix`::name that C has not registered: `resolver` gives the callable for a full name. From then on
 * calls of such names may have arguments of any kind.
 */
int serve_names(tdr_agent *agent, const char *prefix, PyObject *resolver);

/* set_call_wrapper(wrapper): has wrapper(callable, args, kwargs) called in place of each served callable; None: no more. */
PyObject *set_call_wrapper(PyObject *module, PyObject *wrapper);

/* Whether serve_names has been called for the prefix of `name` in this process. */
bool name_is_resolved(const char *name);

/*
 * An object as a value that keeps it: numbers, strings, bytes and None as such; every other as a native object of type
 * OBJECT_TYPE, which stays the same object in this process and is converted when it leaves it.
 */
#define OBJECT_TYPE "python::object"
tdr_value *value_of_object(PyObject *object);

/* A way to make a value of what a function returns: value_of_object, schema_value_from_python. */
typedef tdr_value *(*value_converter)(PyObject *object);

/*
 * Takes the exception that is set, that a function called by others has raised, and prints it, as what somebody looks for first on the
 * worker: see exception_take. `ret_report` is the traceback, and on which worker.
 */
void failure_take(tdr_worker self, char **ret_text, char **ret_report, tdr_value **ret_detail);

/* ---- coroutine.c: functions defined with `async def` ---- */

/*
 * Runs a coroutine in the agent's event loop; what it returns answers the call, as `convert` has it. A call that the caller cancels
 * cancels it. False: an exception, and the call is still to be answered.
 */
bool answer_by_coroutine(tdr_call *call, tdr_agent *agent, PyObject *coroutine, value_converter convert);

/* ---- name.c: callables by name ---- */

/*
 * The name by which `callable` can be called where its module can be imported, "python::module:qualname" (a new reference). NULL
 * without an exception: it has none, and has to be pickled.
 */
PyObject *name_of_callable(PyObject *callable);

/* The callable that "module:qualname" means; a new reference. */
PyObject *callable_of_name(const char *name);

/* Forgets what is kept about names. */
void forget_functions(void);
int name_init(PyObject *module);

/* ---- agent.c, call.c ---- */

extern PyTypeObject *agent_type;

typedef struct AgentObject {
	PyObject_HEAD tdr_agent *agent; /* from join to shutdown */
	PyObject *name;
	PyObject *store; /* what it has joined by: it may host what the library's store needs; NULL once it has left */
	PyObject *options;   /* a dict, for when the agent is made */
	PyObject *prepared;  /* a list of (method, arguments): what has to be done before joining */
	PyObject *on_member; /* called for members that come and go; NULL: none */
	PyObject *weak_references;
	bool leaving;      /* it is being shut down */
	bool left;         /* it has been */
	bool holds_itself; /* for the sake of on_member's context, from join to shutdown */
} AgentObject;

/* The current agent (borrowed), or NULL with the contract's RuntimeError. */
AgentObject *agent_current(void);

/* The same; NULL without an exception. */
AgentObject *agent_current_or_none(void);

/* The library's agent, or NULL with RuntimeError where it is shut down. Borrowed. */
tdr_agent *agent_of(AgentObject *self);

/* Drops a counted reference to an agent, which may have ended meanwhile; takes NULL. */
void agent_drop(tdr_agent *agent);
int agent_init(PyObject *module);

/* Something that waits for others, in whatever thread it runs; see operation.c. */
struct operation {
	void (*run)(struct operation *operation); /* sets `status`, without the GIL */
	tdr_agent *agent;                         /* counted */
	tdr_value *value;
	PyObject *object; /* kept as long as it */
	size_t nnames;
	char **names;
	int64_t timeout_ms;
	bool graceful;
	tdr_status status;
	char *error; /* the text of a failure */
};

struct operation *operation_new(tdr_agent *agent, void (*run)(struct operation *operation));
bool operation_take_names(struct operation *operation, PyObject *names); /* None (all), or an iterable of str */

/*
 * Runs it and waits. 1: it is done; 0: an exception, of its failure, and it is freed; -1: an exception, of a signal's handler: it goes
 * on by itself, and is freed at its end.
 */
int operation_wait(struct operation *operation);
void operation_free(struct operation *operation);

/* Its parts, for run_interruptibly, with the operation as the context; and its failure as an exception: false where there was none. */
void operation_work(void *context);
void operation_release(void *context);
bool operation_raise(struct operation *operation);

/* ---- patience.c: calls that may have to wait before they can leave ---- */

/* A call. `args` and `kwargs` are given away with it. */
struct sending {
	tdr_agent *agent;
	const char *worker;
	tdr_rref *referent; /* on whose value it is called; NULL: none */
	const char *function;
	tdr_value *args;
	tdr_value *kwargs;
	tdr_rpc_options options;
	bool creates; /* a reference to its result is wanted, instead of a future */
};

/* Makes it by the function of the library's that fits. Without the GIL. */
void send_now(const struct sending *sending, tdr_future **ret_future, tdr_rref **ret_rref);

/* Whether what it gave says that it was refused, which TDR_RPC_NO_WAIT asks for, because the worker's credit is used up. */
bool was_refused(tdr_future *future, tdr_rref *rref);

/* Makes it once its turn has come; a signal's handler may end the wait: -1. The arguments are not given away here. */
int send_patiently(const struct sending *sending, tdr_future **ret_future, tdr_rref **ret_rref);

/* agent_device.c: device maps, as dicts of ("cuda", 0) -> ("cuda", 1). False, NULL: an exception. */
bool device_map_set(tdr_agent *agent, PyObject *args);
bool devices_set(tdr_agent *agent, PyObject *args);
PyObject *device_map_get(tdr_agent *agent, PyObject *args);
PyObject *devices_get(tdr_agent *agent);

/* A future of the kind that calls return (see set_future_factory), which completes as `future` (borrowed) does. */
PyObject *future_of_call(tdr_future *future, enum error_style style);

/* agent_group.c: methods of Agent. */
PyObject *agent_worker_info(AgentObject *self, PyObject *args, PyObject *kwargs);
PyObject *agent_worker_infos(AgentObject *self, PyObject *unused);
PyObject *agent_barrier(AgentObject *self, PyObject *args, PyObject *kwargs);
PyObject *agent_all_gather(AgentObject *self, PyObject *args, PyObject *kwargs);
PyObject *agent_delete_all_rrefs(AgentObject *self, PyObject *args);
PyObject *agent_debug_info(AgentObject *self, PyObject *unused);
PyObject *agent_rref_leaks(AgentObject *self, PyObject *unused);
PyObject *agent_rref_list(AgentObject *self, PyObject *unused);
PyObject *agent_dump(AgentObject *self, PyObject *unused);

/* Methods of Agent. */
PyObject *agent_call(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords);
PyObject *agent_call_pickled(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords);
PyObject *agent_call_on(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *keywords);
int call_init(PyObject *module);

/* What `mode` (SYNC, ASYNC, REMOTE) gives for a call by `agent`; `args`, `kwargs`: NULL, None, or what may be made a tuple and a dict. */
PyObject *agent_make_call(AgentObject *agent, PyObject *to, PyObject *function, PyObject *args, PyObject *kwargs,
                          PyObject *timeout, int mode);

/* ---- shortcut.c ---- */

int shortcut_init(PyObject *module);

#endif
