/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The class TCPStore: a client of a store's server, and the server where this process hosts it.
 *
 * Servers of this process are in one list, guarded by the GIL, so that stores with multi_tenant share the one of their port.
 */
#include "store.h"

#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How often a host looks whether all workers are there: first so, then twice as long each time. */
#define LOOK_FIRST_MS 1
#define LOOK_LAST_MS 50

static PyTypeObject *tcp_type;

struct store_server {
	struct store_server *next;
	tdr_store_server *server;
	int refs;
	uint16_t port;
	bool shared;
};

static struct store_server *servers;

void store_server_drop(struct store_server *server)
{
	struct store_server **at = &servers;

	if (!server || --server->refs > 0)
		return;
	while (*at != server)
		at = &(*at)->next;
	*at = server->next;
	Py_BEGIN_ALLOW_THREADS;
	tdr_store_server_close(server->server);
	Py_END_ALLOW_THREADS;
	free(server);
}

static struct store_server *server_find(uint16_t port)
{
	for (struct store_server *server = servers; server; server = server->next)
		if (server->shared && port != 0 && server->port == port) {
			server->refs++;
			return server;
		}
	return NULL;
}

/* Takes over the library's server. */
static struct store_server *server_add(tdr_store_server *library_server, bool shared)
{
	struct store_server *server = calloc(1, sizeof(*server));

	if (!server) {
		Py_BEGIN_ALLOW_THREADS;
		tdr_store_server_close(library_server);
		Py_END_ALLOW_THREADS;
		PyErr_NoMemory();
		return NULL;
	}
	*server = (struct store_server){
	    .next = servers,
	    .server = library_server,
	    .refs = 1,
	    .port = tdr_store_server_port(library_server),
	    .shared = shared,
	};
	servers = server;
	return server;
}

/* ---- what it takes to open one ---- */

struct opening {
	atomic_int refs; /* who asked, and who does it */
	atomic_bool abandoned;
	char *host;
	uint16_t port;
	bool hosts;      /* starts the server */
	bool is_master;  /* waits for the others */
	int64_t workers; /* how many are counted; 0: nobody is */
	int64_t timeout_ms;
	tdr_store_server *server;
	tdr_store *store;
	tdr_status status;
	bool connects; /* has come so far as to try */
	char *error;
};

static void opening_unref(void *context)
{
	struct opening *opening = context;

	if (atomic_fetch_sub(&opening->refs, 1) != 1)
		return;
	tdr_store_unref(opening->store);
	tdr_store_server_close(opening->server);
	free(opening->host);
	free(opening->error);
	free(opening);
}

static tdr_status open_server(struct opening *opening)
{
	tdr_store_server_options options;
	tdr_status status;

	tdr_store_server_options_init(&options);
	options.port = opening->port;
	options.host = tdr_host_is_loopback(opening->host) ? opening->host : "::";
	status = tdr_store_server_open(&options, &opening->server);
	if (status == TDR_OK)
		opening->port = tdr_store_server_port(opening->server);
	return status;
}

/* ---- counting the workers ---- */

/*
 * PyTorch's stores count who has come under a key that no program can name, since it lacks the '/' in front. The library's public
 * interface cannot name it either; so it is asked for by hand.
 */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A socket that is connected to the server, and blocks no longer than to the deadline; or -1. */
static int connect_to(const char *host, uint16_t port, int64_t deadline_ms)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	int64_t left = deadline_ms - now_ms();
	struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%u", port);
	if (left <= 0 || getaddrinfo(host, service, &hints, &found) != 0)
		return -1;
	for (const struct addrinfo *each = found; each && fd < 0; each = each->ai_next) {
		fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (connect(fd, each->ai_addr, each->ai_addrlen) == 0)
			break;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

static void put_u64(uint8_t *to, uint64_t number)
{
	for (int i = 0; i < 8; i++)
		to[i] = (uint8_t)(number >> (8 * i));
}

/* Adds to the count, by a connection of its own in one version of the wire. False: the server does not answer that. */
static bool add_in_version(const struct opening *opening, int version, int64_t amount, int64_t deadline_ms,
                           int64_t *ret_count)
{
	static const uint8_t key[] = {'i', 'n', 'i', 't', '/'};
	static const uint8_t greeting[] = {0, 0xce, 0xf7, 0x85, 0x3c};
	uint8_t request[64], answer[8];
	size_t size = 0, got = 0;
	int fd = connect_to(opening->host, opening->port, deadline_ms);

	if (fd < 0)
		return false;
	if (version == 2) {
		memcpy(request, greeting, sizeof(greeting));
		size = sizeof(greeting);
	}
	request[size++] = version == 2 ? 4 : 3;
	put_u64(request + size, sizeof(key));
	memcpy(request + size + 8, key, sizeof(key));
	size += 8 + sizeof(key);
	put_u64(request + size, (uint64_t)amount);
	size += 8;
	if (send(fd, request, size, MSG_NOSIGNAL) == (ssize_t)size) {
		while (got < sizeof(answer)) {
			ssize_t some = recv(fd, answer + got, sizeof(answer) - got, 0);

			if (some < 0 && errno == EINTR)
				continue;
			if (some <= 0)
				break;
			got += (size_t)some;
		}
	}
	close(fd);
	if (got < sizeof(answer))
		return false;
	*ret_count = 0;
	for (int i = 7; i >= 0; i--)
		*ret_count = (int64_t)((uint64_t)*ret_count << 8 | answer[i]);
	return true;
}

/*
 * Adds to the count of workers. A server of version 2 hangs up on who begins as in version 1, before it has done anything; one of
 * version 1 would wait for the rest of what version 2 begins with. So version 1 is asked first.
 */
static bool count_workers(const struct opening *opening, int64_t amount, int64_t deadline_ms, int64_t *ret_count)
{
	return add_in_version(opening, 1, amount, deadline_ms, ret_count) ||
	       add_in_version(opening, 2, amount, deadline_ms, ret_count);
}

/* Counts this worker; who hosts the store waits for the others, and goes on without them when its time is over. */
static void meet_workers(struct opening *opening)
{
	int64_t timeout_ms = opening->timeout_ms == TDR_TIMEOUT_NEVER ? INT64_C(86400000) : opening->timeout_ms;
	int64_t deadline_ms = now_ms() + timeout_ms, count = 0;
	int64_t pause_ms = LOOK_FIRST_MS;

	if (!count_workers(opening, 1, deadline_ms, &count) || !opening->is_master)
		return;
	while (count < opening->workers && !atomic_load(&opening->abandoned) &&
	       (now_ms() < deadline_ms || opening->timeout_ms == TDR_TIMEOUT_NEVER)) {
		struct timespec pause = {.tv_nsec = pause_ms * 1000000};

		nanosleep(&pause, NULL);
		pause_ms = pause_ms * 2 < LOOK_LAST_MS ? pause_ms * 2 : LOOK_LAST_MS;
		if (!count_workers(opening, 0, now_ms() + timeout_ms, &count))
			return;
	}
}

/* ---- opening ---- */

static void opening_work(void *context)
{
	struct opening *opening = context;

	opening->status = opening->hosts ? open_server(opening) : TDR_OK;
	if (opening->status == TDR_OK) {
		opening->connects = true;
		opening->status = tdr_store_tcp(opening->host, opening->port, opening->timeout_ms, &opening->store);
	}
	if (opening->status != TDR_OK)
		opening->error = strdup(tdr_last_error());
	else if (opening->workers > 0)
		meet_workers(opening);
}

static void opening_raise(const struct opening *opening)
{
	const char *error = opening->error ? opening->error : tdr_status_text(opening->status);

	if (opening->connects && opening->status == TDR_ETIMEDOUT)
		PyErr_SetString(PyExc_TimeoutError, error);
	else
		raise_status(opening->status, error, NULL, NULL, ERROR_OF_CALL);
}

/* Runs it and takes what it has made. */
static int opening_run(StoreObject *self, struct opening *opening, struct store_server *server, bool shared)
{
	atomic_fetch_add(&opening->refs, 1);
	if (run_interruptibly(opening_work, opening, opening_unref) < 0) {
		PyObject *type, *value, *traceback;

		PyErr_Fetch(&type, &value, &traceback);
		atomic_store(&opening->abandoned, true);
		store_server_drop(server);
		PyErr_Restore(type, value, traceback);
		return -1;
	}
	atomic_fetch_sub(&opening->refs, 1);
	if (opening->status == TDR_EIO && opening->hosts && shared && (server = server_find(opening->port))) {
		/* Another thread was first. */
		opening->hosts = false;
		free(opening->error);
		opening->error = NULL;
		return opening_run(self, opening, server, shared);
	}
	if (opening->status != TDR_OK) {
		store_server_drop(server);
		opening_raise(opening);
		return -1;
	}
	if (opening->server) {
		server = server_add(opening->server, shared);
		opening->server = NULL;
		if (!server)
			return -1;
	}
	store_drop(self);
	self->store = opening->store;
	self->server = server;
	self->port = opening->port;
	opening->store = NULL;
	return 0;
}

static int tcp_init(StoreObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keywords[] = {"host_name",        "port",         "world_size", "is_master", "timeout",
	                           "wait_for_workers", "multi_tenant", NULL};
	PyObject *host, *world_size = Py_None, *timeout = NULL;
	int is_master = false, wait_for_workers = true, multi_tenant = false;
	int64_t timeout_ms = STORE_TIMEOUT_MS, workers = 0;
	struct store_server *server = NULL;
	struct opening *opening;
	const char *text;
	int port, result;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Ui|OpOpp:TCPStore", keywords, &host, &port, &world_size,
	                                 &is_master, &timeout, &wait_for_workers, &multi_tenant))
		return -1;
	if (port < 0 || port > UINT16_MAX) {
		PyErr_Format(PyExc_TypeError,
		             "TCPStore(): incompatible constructor arguments: the port %d is not from 0 to 65535",
		             port);
		return -1;
	}
	if (port == 0 && !is_master) {
		PyErr_SetString(PyExc_ValueError,
		                "TCPStore(): port 0 lets who hosts the store choose one; a client has to be told it");
		return -1;
	}
	if (world_size != Py_None) {
		workers = PyLong_AsLongLong(world_size);
		if (workers == -1 && PyErr_Occurred())
			return -1;
	}
	text = PyUnicode_AsUTF8(host);
	if (!text || (timeout && !store_timeout_from_python(timeout, &timeout_ms)))
		return -1;
	opening = calloc(1, sizeof(*opening));
	if (!opening || !(opening->host = strdup(text))) {
		free(opening);
		PyErr_NoMemory();
		return -1;
	}
	if (is_master && multi_tenant)
		server = server_find((uint16_t)port);
	atomic_init(&opening->refs, 1);
	opening->port = (uint16_t)port;
	opening->hosts = is_master && !server;
	opening->is_master = is_master;
	opening->workers = wait_for_workers && workers > 0 ? workers : 0;
	opening->timeout_ms = timeout_ms;
	result = opening_run(self, opening, server, multi_tenant);
	if (result == 0)
		Py_XSETREF(self->place, Py_NewRef(host));
	Py_BEGIN_ALLOW_THREADS;
	opening_unref(opening);
	Py_END_ALLOW_THREADS;
	return result;
}

/* ---- the class ---- */

static PyObject *get_host(StoreObject *self, void *unused)
{
	return Py_NewRef(self->place ? self->place : Py_None);
}

static PyObject *get_port(StoreObject *self, void *unused)
{
	return PyLong_FromLong(self->port);
}

static PyGetSetDef tcp_fields[] = {
    {"host", (getter)get_host, NULL, PyDoc_STR("The host where the server is, as it was given, a str."), NULL},
    {"port", (getter)get_port, NULL, PyDoc_STR("The port where the server listens, an int."), NULL},
    {NULL},
};

static PyType_Slot tcp_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR(
	 "TCPStore(host_name, port, world_size=None, is_master=False, timeout=datetime.timedelta(seconds=300), "
	 "wait_for_workers=True, multi_tenant=False)\n--\n\nA store that a server keeps, and others reach over TCP; "
	 "torch.distributed's and this one can be each other's clients.\n\nArgs:\n    host_name: where the server "
	 "is.\n    port: its port; 0 with is_master: any free one, see `port`.\n    world_size: how many clients there "
	 "will be, this one included.\n    is_master: whether this process hosts the server. It listens for this "
	 "machine "
	 "alone where the name stands for loopback.\n    timeout: how long to try to connect; the store has it "
	 "afterwards.\n    wait_for_workers: with a world_size, whether this one is counted, and the master waits "
	 "until all are there or the timeout is over.\n    multi_tenant: whether masters of this process on one port "
	 "share its server.\n\nRaises:\n    RuntimeError: the server cannot listen there.\n    TimeoutError: no server "
	 "has answered.")},
    {Py_tp_init, (void *)tcp_init},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_traverse, (void *)store_traverse},
    {Py_tp_clear, (void *)store_clear},
    {Py_tp_getset, (void *)tcp_fields},
    {0, NULL},
};

static PyType_Spec tcp_spec = {
    .name = "tendril.store.TCPStore",
    .basicsize = sizeof(StoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = tcp_slots,
};

int store_tcp_init(PyObject *module)
{
	return store_kind_add(module, &tcp_spec, &tcp_type) ? 0 : -1;
}
