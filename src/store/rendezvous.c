/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rendezvous in three steps: the URL is taken apart, what it does not say is looked up in the arguments and the
 * environment, and the store that comes of it is opened; in a group over TCP rank 0 starts the server first.
 */
#include "store/rendezvous.h"

#include "base/error.h"
#include "base/log.h"
#include "base/macros.h"
#include "store/loopback.h"
#include "store/store_internal.h"
#include "store/tcp_store.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIND_MS = 5000, /* for a store that is there already to answer */
};

enum scheme {
	SCHEME_ENV,
	SCHEME_TCP,
	SCHEME_FILE,
};

static const char *const scheme_names[] = {
    [SCHEME_ENV] = "env",
    [SCHEME_TCP] = "tcp",
    [SCHEME_FILE] = "file",
};

/* What a URL says, and then what is known from elsewhere. */
struct request {
	enum scheme scheme;
	char *text;     /* the URL, which the strings below are parts of */
	char *location; /* behind "://": an address or a path */
	int rank;       /* -1: not known */
	int world_size; /* -1: not known, or not fixed */
	const char *host;
	uint16_t port;
	int64_t timeout_ms;
};

/* A text of the form that users know from the peer. */
__attribute__((format(printf, 3, 4))) static tdr_status fail(const struct request *request, tdr_status status,
                                                             const char *format, ...)
{
	char detail[ERROR_TEXT_SIZE - 64];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);
	return error_set(status, "Error initializing tendril using %s:// rendezvous: %s", scheme_names[request->scheme],
	                 detail);
}

static bool read_number(const char *text, long *ret_number)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
		return false;
	*ret_number = number;
	return true;
}

/* An environment variable; NULL also where it is empty. */
static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] != '\0' ? value : NULL;
}

/* ---- the URL ---- */

/* `rank=0&world_size=2`; other names are not ours to judge. */
static tdr_status read_query(struct request *request, char *query)
{
	char *rest = NULL;

	for (char *pair = strtok_r(query, "&", &rest); pair; pair = strtok_r(NULL, "&", &rest)) {
		char *value = strchr(pair, '=');
		int *wanted;
		long number;

		if (!value)
			continue;
		*value++ = '\0';
		wanted = strcmp(pair, "rank") == 0         ? &request->rank
		         : strcmp(pair, "world_size") == 0 ? &request->world_size
		                                           : NULL;
		if (!wanted)
			continue;
		if (!read_number(value, &number) || number < -1 || number > INT_MAX)
			return fail(request, TDR_EINVAL, "%s in the URL is '%s'; give a number", pair, value);
		*wanted = (int)number;
	}
	return TDR_OK;
}

static tdr_status read_url(struct request *request, const char *url)
{
	size_t name_size = strcspn(url, ":");
	size_t scheme = 0;
	char *query;

	if (strncmp(url + name_size, "://", 3) != 0)
		return error_set(TDR_EINVAL,
		                 "No rendezvous handler for '%s': give env://, tcp://HOST:PORT or file:///PATH", url);
	while (scheme < COUNT_OF(scheme_names) &&
	       (strlen(scheme_names[scheme]) != name_size || strncmp(url, scheme_names[scheme], name_size) != 0))
		scheme++;
	if (scheme == COUNT_OF(scheme_names))
		return error_set(TDR_EINVAL, "No rendezvous handler for %.*s://; there are env://, tcp:// and file://",
		                 (int)MIN_OF(name_size, (size_t)100), url);
	request->scheme = (enum scheme)scheme;
	request->text = strdup(url + name_size + 3);
	if (!request->text)
		return error_nomem();
	request->location = request->text;
	query = strchr(request->text, '?');
	if (!query)
		return TDR_OK;
	*query = '\0';
	return read_query(request, query + 1);
}

static tdr_status read_port(struct request *request, const char *text)
{
	long port;

	if (!read_number(text, &port) || port < 0 || port > UINT16_MAX)
		return error_set(TDR_EINVAL, "port must have value from 0 to 65535 but was %s.", text);
	request->port = (uint16_t)port;
	return TDR_OK;
}

/* Where brackets stand around an address of IPv6, takes them off. */
static const char *read_host(char *host)
{
	size_t size = strlen(host);

	if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
		host[size - 1] = '\0';
		host++;
	}
	return host;
}

/* host:port, behind tcp:// */
static tdr_status read_address(struct request *request)
{
	char *location = request->location;
	char *colon;

	location[strcspn(location, "/")] = '\0';
	colon = strrchr(location, ':');
	if (!colon || colon[1] == '\0' || strchr(colon, ']'))
		return fail(request, TDR_EINVAL, "port number missing; give tcp://HOST:PORT");
	*colon = '\0';
	request->host = read_host(location);
	if (request->host[0] == '\0')
		return fail(request, TDR_EINVAL, "host missing; give tcp://HOST:PORT");
	return read_port(request, colon + 1);
}

/* ---- what the URL does not say ---- */

/* One of rank and size: the argument, else what the URL said, else the environment. -1 where nobody knows. */
static tdr_status find_number(const struct request *request, const char *name, const char *variable, int argument,
                              int *number)
{
	const char *text = environment(variable);
	long value;

	if (argument < -1)
		return fail(request, TDR_EINVAL, "%s is %d; give -1 where it is not known", name, argument);
	if (argument >= 0 && *number >= 0 && argument != *number)
		return fail(request, TDR_EINVAL, "%s is %d as an argument and %d in the URL; give one of them", name,
		            argument, *number);
	if (argument >= 0)
		*number = argument;
	if (*number >= 0 || !text)
		return TDR_OK;
	if (!read_number(text, &value) || value < -1 || value > INT_MAX)
		return fail(request, TDR_EINVAL, "environment variable %s is '%s'; set it to a number", variable, text);
	*number = (int)value;
	return TDR_OK;
}

static tdr_status find_member(struct request *request, int rank, int world_size)
{
	tdr_status status = find_number(request, "rank", "RANK", rank, &request->rank);

	if (status == TDR_OK)
		status = find_number(request, "world_size", "WORLD_SIZE", world_size, &request->world_size);
	if (status != TDR_OK)
		return status;
	if (request->world_size <= 0) { /* dynamic: whoever comes may take any id */
		request->world_size = -1;
		return TDR_OK;
	}
	if (request->rank < 0 && request->scheme == SCHEME_ENV)
		return fail(request, TDR_EINVAL, "environment variable RANK expected, but not set");
	if (request->rank < 0)
		return fail(request, TDR_EINVAL,
		            "rank parameter missing; give it as an argument, in the URL (?rank=N) or in RANK");
	if (request->rank >= request->world_size)
		return fail(request, TDR_EINVAL, "rank %d is not below the world_size %d", request->rank,
		            request->world_size);
	return TDR_OK;
}

/* MASTER_ADDR and MASTER_PORT. */
static tdr_status find_address(struct request *request)
{
	const char *host = environment("MASTER_ADDR"), *port = environment("MASTER_PORT");

	if (!host || !port)
		return fail(request, TDR_EINVAL, "environment variable %s expected, but not set",
		            host ? "MASTER_PORT" : "MASTER_ADDR");
	free(request->text);
	request->text = strdup(host);
	if (!request->text)
		return error_nomem();
	request->host = read_host(request->text);
	return read_port(request, port);
}

/* ---- stores ---- */

/* Where to listen: only on this machine where the others are told to come to an address of loopback. */
static tdr_status choose_listening(const struct request *request, const char **ret_host)
{
	bool loopback;
	int code = loopback_look_up(request->host, &loopback);

	if (code != 0)
		return fail(request, TDR_EINVAL, "the address '%s' of rank 0 cannot be found: %s", request->host,
		            gai_strerror(code));
	*ret_host = loopback ? request->host : "::";
	return TDR_OK;
}

/* Starts the server, and sets the port to the one it got. */
static tdr_status host_store(struct request *request, tdr_store_server **ret_server)
{
	tdr_store_server_options options;
	tdr_status status;

	tdr_store_server_options_init(&options);
	options.port = request->port;
	status = choose_listening(request, &options.host);
	if (status != TDR_OK)
		return status;
	status = tdr_store_server_open(&options, ret_server);
	if (status != TDR_OK)
		return fail(request, status,
		            "rank 0 cannot host the store on port %u: %s Choose another port, or set "
		            "TENDRIL_STORE_HOSTED=1 where another process hosts the store",
		            request->port, tdr_last_error());
	request->port = tdr_store_server_port(*ret_server);
	LOG(TDR_LOG_INFO, "event=store_hosted listen=%s port=%u", options.host, request->port);
	return TDR_OK;
}

/* torchrun's agent serves all attempts to start a group from one store. */
static tdr_status put_attempt_before(const struct request *request, tdr_store **store)
{
	const char *attempt = environment("TORCHELASTIC_RESTART_COUNT");
	char prefix[64];
	tdr_store *below = *store;
	tdr_status status;

	if (!attempt)
		return fail(request, TDR_EINVAL,
		            "environment variable TORCHELASTIC_RESTART_COUNT expected, but not set, since "
		            "TORCHELASTIC_USE_AGENT_STORE is");
	snprintf(prefix, sizeof(prefix), "/worker/attempt_%.40s", attempt);
	status = tdr_store_prefix(prefix, below, store);
	if (status == TDR_OK)
		tdr_store_unref(below);
	return status;
}

/*
 * In a dynamic group members come and go, rank 0 as well: where the store is there already, it is a client like the others. Else
 * the error is why it cannot host one.
 */
static tdr_status host_or_find(struct request *request, struct rendezvous *result)
{
	char text[ERROR_TEXT_SIZE];
	tdr_status status = host_store(request, &result->server);

	if (status == TDR_OK || request->world_size > 0 || request->port == 0)
		return status;
	snprintf(text, sizeof(text), "%s", tdr_last_error());
	if (tdr_store_tcp(request->host, request->port,
	                  request->timeout_ms ? MIN_OF(request->timeout_ms, (int64_t)FIND_MS) : FIND_MS,
	                  &result->store) != TDR_OK)
		return error_set(status, "%s", text);
	tdr_store_set_timeout(result->store, request->timeout_ms);
	return TDR_OK;
}

static tdr_status open_tcp(struct request *request, struct rendezvous *result)
{
	const char *agent_store = getenv("TORCHELASTIC_USE_AGENT_STORE"), *hosted = getenv("TENDRIL_STORE_HOSTED");
	bool by_agent = agent_store && strcmp(agent_store, "True") == 0;
	bool by_other = by_agent || (hosted && strcmp(hosted, "1") == 0);
	tdr_status status = TDR_OK;

	if (!by_other && request->rank == 0)
		status = host_or_find(request, result);
	else if (request->port == 0)
		status =
		    fail(request, TDR_EINVAL, "port 0 lets rank 0 choose one, which nobody else can know; give a port");
	if (status != TDR_OK)
		return status;
	if (!result->store)
		status = tdr_store_tcp(request->host, request->port, request->timeout_ms, &result->store);
	if (status == TDR_ETIMEDOUT)
		return fail(request, status, "%s at %s:%u has not come within %" PRId64 " ms (%s)",
		            by_other || request->world_size < 0 ? "the store's server" : "rank 0", request->host,
		            request->port, request->timeout_ms, tdr_last_error());
	if (status == TDR_OK && request->world_size > 0 && !by_other)
		status = tcp_store_announce(result->store);
	if (status != TDR_OK)
		return fail(request, status, "%s", tdr_last_error());
	return by_agent ? put_attempt_before(request, &result->store) : TDR_OK;
}

static tdr_status open_file(const struct request *request, struct rendezvous *result)
{
	tdr_status status;

	if (request->location[0] == '\0')
		return fail(request, TDR_EINVAL, "path missing; give file:///PATH");
	if (request->location[0] != '/')
		return fail(request, TDR_EINVAL, "the path '%s' is not absolute; give file:///PATH, with three slashes",
		            request->location);
	status = tdr_store_file(request->location, request->world_size, &result->store);
	if (status != TDR_OK)
		return fail(request, status, "%s", tdr_last_error());
	tdr_store_set_timeout(result->store, request->timeout_ms);
	return TDR_OK;
}

static tdr_status open_store(struct request *request, int rank, int world_size, struct rendezvous *result)
{
	tdr_status status = TDR_OK;

	if (request->scheme == SCHEME_FILE && request->location[0] == '\0')
		return open_file(request, result); /* the path is what one should give first */
	if (request->scheme == SCHEME_TCP)
		status = read_address(request);
	if (status == TDR_OK)
		status = find_member(request, rank, world_size);
	if (status == TDR_OK && request->scheme == SCHEME_ENV)
		status = find_address(request);
	if (status != TDR_OK)
		return status;
	return request->scheme == SCHEME_FILE ? open_file(request, result) : open_tcp(request, result);
}

tdr_status rendezvous(const char *url, int rank, int world_size, int64_t timeout_ms, struct rendezvous *ret_rendezvous)
{
	struct request request = {.rank = -1, .world_size = -1};
	struct rendezvous result = {0};
	tdr_status status;

	if (timeout_ms < TDR_TIMEOUT_DEFAULT)
		return error_set(TDR_EINVAL, "rendezvous: a timeout of %" PRId64 " ms", timeout_ms);
	request.timeout_ms = timeout_ms == TDR_TIMEOUT_DEFAULT ? STORE_DEFAULT_TIMEOUT_MS : timeout_ms;
	status = read_url(&request, url ? url : "env://");
	if (status == TDR_OK)
		status = open_store(&request, rank, world_size, &result);
	if (status == TDR_OK) {
		result.rank = request.rank;
		result.world_size = request.world_size;
		LOG(TDR_LOG_INFO, "event=rendezvous scheme=%s rank=%d world_size=%d store=%s",
		    scheme_names[request.scheme], result.rank, result.world_size, tdr_store_kind(result.store));
		*ret_rendezvous = result;
	} else {
		rendezvous_fini(&result);
	}
	free(request.text);
	return status;
}

void rendezvous_fini(struct rendezvous *rendezvous)
{
	tdr_store_unref(TAKE_PTR(rendezvous->store));
	tdr_store_server_close(TAKE_PTR(rendezvous->server));
}
