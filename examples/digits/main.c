/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parameter server and its trainers learn handwritten digits: tendril run -n 3 -- ./digits digits.csv.gz
 *
 * Rank 0 serves the model: trainers pull it, compute a gradient on a batch of their share of the rows, and push that; the server
 * applies it and counts versions. At the end the server prints the accuracy on rows that nobody trained on, and what the calls cost.
 */
#include "../example.h"
#include "dataset.h"
#include "softmax.h"

#include <pthread.h>
#include <string.h>

enum {
	EPOCHS = 12,
	BATCH = 16,
	PROGRESS_EVERY = 200
};

static const double LEARNING_RATE = 0.1;

/* ---- the server ---- */

struct server {
	pthread_mutex_t lock; /* guards all below */
	float model[MODEL_SIZE];
	int64_t version;
	double loss; /* running mean of what trainers report */
};

static tdr_status pull(tdr_call *call, void *context)
{
	struct server *server = context;
	tdr_tensor *copy;
	tdr_status status;

	pthread_mutex_lock(&server->lock);
	status = tdr_tensor_copy_of(server->model, TDR_F32, TDR_SHAPE(MODEL_ROWS, CLASSES), &copy);
	pthread_mutex_unlock(&server->lock);
	if (status != TDR_OK)
		return status;
	status = tdr_return_tensor(call, copy);
	tdr_tensor_unref(copy);
	return status;
}

static tdr_status push(tdr_call *call, void *context)
{
	struct server *server = context;
	const tdr_tensor *gradient = tdr_arg_tensor(call, 0);
	const float *slopes = tdr_tensor_data(gradient);
	double loss = tdr_arg_float(call, 1), rate = tdr_arg_float(call, 2);
	int64_t version;

	if (tdr_tensor_dtype(gradient) != TDR_F32 || tdr_tensor_numel(gradient) != MODEL_SIZE ||
	    !tdr_tensor_is_contiguous(gradient))
		return tdr_fail(call, TDR_ETYPE, "a gradient is a contiguous f32 tensor of %d x %d", MODEL_ROWS,
		                CLASSES);
	pthread_mutex_lock(&server->lock);
	for (int i = 0; i < MODEL_SIZE; i++)
		server->model[i] -= (float)rate * slopes[i];
	version = ++server->version;
	server->loss = version == 1 ? loss : 0.98 * server->loss + 0.02 * loss;
	loss = server->loss;
	pthread_mutex_unlock(&server->lock);
	if (version % PROGRESS_EVERY == 0) {
		printf("version %5lld   loss %.3f   (last push: %s)\n", (long long)version, loss,
		       tdr_call_worker_name(call));
		fflush(stdout);
	}
	return tdr_return_int(call, version);
}

/* One worker's counters, as a row. */
static void print_row(const char *name, const tdr_value *info)
{
	static const char *const keys[] = {
	    "agent.calls_issued",   "agent.calls_served",    "agent.bytes_sent",
	    "agent.bytes_received", "agent.latency_mean_us", "agent.latency_p99_us",
	};

	printf("%-10s", name);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		int64_t number;

		must(tdr_value_get_int(tdr_dict_get(info, keys[i]), &number), keys[i]);
		printf(" %14lld", (long long)number);
	}
	printf("\n");
}

/* Ends the program unless the model has learnt; it is not expected to in fewer epochs than usual. */
static void print_result(const struct server *server, const struct dataset *set, const tdr_value *infos, int epochs)
{
	int test_rows = set->rows - set->training_rows;
	double accuracy = softmax_accuracy(server->model, set, set->training_rows, test_rows);

	printf("\n%-10s %14s %14s %14s %14s %14s %14s\n", "worker", "calls made", "calls served", "bytes sent",
	       "bytes received", "mean us", "p99 below us");
	for (size_t i = 0; i < tdr_value_count(infos); i++) {
		const char *name;

		must(tdr_value_get_string(tdr_dict_key(infos, i), &name, NULL), "name");
		print_row(name, tdr_dict_value(infos, i));
	}
	printf("\n%lld versions; %d test digits, accuracy %.3f\n", (long long)server->version, test_rows, accuracy);
	if (accuracy < 0.90 && epochs >= EPOCHS) {
		fprintf(stderr, "the model has not learnt: an accuracy of 0.90 was expected\n");
		exit(1);
	}
}

/* ---- a trainer ---- */

static void train(tdr_agent *agent, const struct dataset *set, int share, int shares, int epochs)
{
	int from = set->training_rows * share / shares, to = set->training_rows * (share + 1) / shares;

	for (int epoch = 0; epoch < epochs; epoch++) {
		for (int row = from; row + BATCH <= to; row += BATCH) {
			tdr_value *pulled;
			tdr_tensor *model, *gradient;
			double loss;

			must(tdr_rpc_sync(agent, "ps", "ps::pull", TDR_NO_ARGS, TDR_NO_ARGS, &pulled), "pull");
			must(tdr_value_get_tensor(pulled, &model), "model");
			must(tdr_tensor_empty(TDR_F32, TDR_SHAPE(MODEL_ROWS, CLASSES), &gradient), "gradient");
			loss = softmax_gradient(tdr_tensor_data(model), set, row, BATCH, tdr_tensor_data(gradient));
			must(tdr_rpc_sync(agent, "ps", "ps::push", TDR_ARGS(gradient),
			                  TDR_KWARGS("loss", loss, "lr", LEARNING_RATE), NULL),
			     "push");
			tdr_tensor_unref(gradient);
			tdr_value_unref(pulled);
		}
	}
}

int main(int argc, char **argv)
{
	const char *rank_text = getenv("RANK");
	bool serves = !rank_text || strcmp(rank_text, "0") == 0;
	static struct server server = {.lock = PTHREAD_MUTEX_INITIALIZER};
	int epochs = argc > 2 ? atoi(argv[2]) : EPOCHS;
	struct dataset *set;
	tdr_agent *agent;
	tdr_value *info, *infos;

	if (argc < 2 || argc > 3 || epochs < 1 || !rank_text) {
		fprintf(stderr, "usage: tendril run -n 3 -- %s digits.csv.gz [epochs]\n", argv[0]);
		return 2;
	}
	set = dataset_read(argv[1]);
	agent = serves ? tdr_agent_new("ps", NULL) : example_agent("trainer");
	if (!agent) {
		fprintf(stderr, "ps: %s\n", tdr_last_error());
		return 1;
	}
	if (serves) {
		must(tdr_register(agent, "ps::pull() -> Tensor", pull, &server, TDR_FUNCTION_INLINE), "register");
		must(tdr_register(agent, "ps::push(Tensor gradient, *, float loss, float lr=0.1) -> int", push, &server,
		                  TDR_FUNCTION_INLINE),
		     "register");
	}
	must(tdr_join(agent), "join");
	if (!serves)
		train(agent, set, atoi(rank_text) - 1, (int)tdr_worker_count(agent) - 1, epochs);
	must(tdr_barrier(agent, 0, NULL, TDR_TIMEOUT_NEVER), "barrier");
	must(tdr_debug_info(agent, &info), "metrics");
	must(tdr_all_gather(agent, info, 0, NULL, TDR_TIMEOUT_DEFAULT, &infos), "gather");
	if (serves)
		print_result(&server, set, infos, epochs);
	tdr_value_unref(infos);
	must(tdr_shutdown(agent, NULL), "shutdown");
	free(set);
	return 0;
}
