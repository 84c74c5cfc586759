/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parameter server and its trainers learn handwritten digits: tendril run -n 3 -- ./digits digits.csv.gz
 *
 * Rank 0 has the model, and hands the trainers a reference to it: each pulls the weights, computes a gradient on a
 * batch of its share of the rows, and pushes that, again and again. At the end the server prints the accuracy on rows
 * that nobody trained on, and what the calls cost.
 */
#include "../example.h"
#include "dataset.h"
#include "model.h"
#include "softmax.h"

#include <string.h>

enum {
	EPOCHS = 12,
	BATCH = 16
};

static const double LEARNING_RATE = 0.1;

/* ---- the server ---- */

/* Has every trainer train the model. */
static void have_trained(tdr_agent *agent, tdr_rref *model, int epochs)
{
	size_t ntrainers = tdr_worker_count(agent) - 1;
	tdr_future **futures = calloc(ntrainers, sizeof(tdr_future *));
	tdr_rpc_options options;

	tdr_rpc_options_init(&options);
	options.timeout_ms = TDR_TIMEOUT_NEVER;
	for (size_t i = 0; i < ntrainers; i++) {
		tdr_worker trainer;

		must(tdr_worker_at(agent, i + 1, &trainer), "trainer");
		futures[i] = tdr_rpc_async_with(agent, trainer.name, "trainer::train",
		                                TDR_ARGS(model, i, ntrainers, epochs), NULL, &options);
	}
	must(tdr_future_wait_all(ntrainers, futures, TDR_TIMEOUT_NEVER), "train");
	for (size_t i = 0; i < ntrainers; i++)
		tdr_future_unref(futures[i]);
	free(futures);
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
static void print_result(const struct model *model, const struct dataset *set, const tdr_value *infos, int epochs)
{
	int test_rows = set->rows - set->training_rows;
	double accuracy = softmax_accuracy(model->weights, set, set->training_rows, test_rows);

	printf("\n%-10s %14s %14s %14s %14s %14s %14s\n", "worker", "calls made", "calls served", "bytes sent",
	       "bytes received", "mean us", "p99 below us");
	for (size_t i = 0; i < tdr_value_count(infos); i++) {
		const char *name;

		must(tdr_value_get_string(tdr_dict_key(infos, i), &name, NULL), "name");
		print_row(name, tdr_dict_value(infos, i));
	}
	printf("\n%lld versions; %d test digits, accuracy %.3f\n", (long long)model->version, test_rows, accuracy);
	if (accuracy < 0.90 && epochs >= EPOCHS) {
		fprintf(stderr, "the model has not learnt: an accuracy of 0.90 was expected\n");
		exit(1);
	}
}

/* ---- a trainer ---- */

/* Pulls the model, and pushes the gradient over one batch. */
static tdr_status train_batch(tdr_rref *model, const struct dataset *set, int row)
{
	tdr_value *pulled;
	tdr_tensor *weights, *gradient;
	tdr_status status = tdr_rref_rpc_sync(model, "pull", TDR_NO_ARGS, TDR_NO_ARGS, &pulled);
	double loss;

	if (status != TDR_OK)
		return status;
	must(tdr_value_get_tensor(pulled, &weights), "weights");
	must(tdr_tensor_empty(TDR_F32, TDR_SHAPE(MODEL_ROWS, CLASSES), &gradient), "gradient");
	loss = softmax_gradient(tdr_tensor_data(weights), set, row, BATCH, tdr_tensor_data(gradient));
	status =
	    tdr_rref_rpc_sync(model, "push", TDR_ARGS(gradient), TDR_KWARGS("loss", loss, "lr", LEARNING_RATE), NULL);
	tdr_tensor_unref(gradient);
	tdr_value_unref(pulled);
	return status;
}

static tdr_status train(tdr_call *call, void *context)
{
	const struct dataset *set = context;
	int64_t share = tdr_arg_int(call, 1), shares = tdr_arg_int(call, 2), epochs = tdr_arg_int(call, 3), from, to;
	tdr_rref *model = tdr_arg_rref(call, 0);
	tdr_status status = TDR_OK;

	if (share < 0 || share >= shares || shares > set->training_rows)
		return tdr_fail(call, TDR_EINVAL, "there is no share %lld of %lld", (long long)share,
		                (long long)shares);
	from = set->training_rows * share / shares;
	to = set->training_rows * (share + 1) / shares;
	for (int64_t epoch = 0; epoch < epochs; epoch++)
		for (int64_t row = from; row + BATCH <= to && status == TDR_OK; row += BATCH)
			status = train_batch(model, set, (int)row);
	return status;
}

/* ---- both ---- */

/* Waits for all to be done, and prints what has come of it on the server, which has the model (NULL elsewhere). */
static void conclude(tdr_agent *agent, tdr_rref *model, const struct dataset *set, int epochs)
{
	tdr_value *info, *infos, *value;

	must(tdr_barrier(agent, 0, NULL, TDR_TIMEOUT_NEVER), "barrier");
	must(tdr_debug_info(agent, &info), "metrics");
	must(tdr_all_gather(agent, info, 0, NULL, TDR_TIMEOUT_DEFAULT, &infos), "gather");
	if (model) {
		must(tdr_rref_local_value(model, TDR_TIMEOUT_NEVER, &value), "model");
		print_result(model_of(value), set, infos, epochs);
		tdr_value_unref(value);
	}
	tdr_value_unref(infos);
}

int main(int argc, char **argv)
{
	const char *rank = getenv("RANK");
	bool serves = !rank || strcmp(rank, "0") == 0;
	int epochs = argc > 2 ? atoi(argv[2]) : EPOCHS;
	struct dataset *set;
	tdr_agent *agent;
	tdr_rref *model = NULL;

	if (argc < 2 || argc > 3 || epochs < 1 || !rank) {
		fprintf(stderr, "usage: tendril run -n 3 -- %s digits.csv.gz [epochs]\n", argv[0]);
		return 2;
	}
	set = dataset_read(argv[1]);
	agent = serves ? tdr_agent_new("ps", NULL) : example_agent("trainer");
	if (!agent) {
		fprintf(stderr, "ps: %s\n", tdr_last_error());
		return 1;
	}
	if (serves)
		model_register(agent);
	else
		must(tdr_register(agent, "trainer::train(RRef model, int share, int shares, int epochs) -> ()", train,
		                  set, 0),
		     "register");
	must(tdr_join(agent), "join");
	if (serves) {
		model = tdr_rref_new(agent, model_new());
		if (!model) {
			fprintf(stderr, "model: %s\n", tdr_last_error());
			return 1;
		}
		have_trained(agent, model, epochs);
	}
	conclude(agent, model, set, epochs);
	tdr_rref_unref(model);
	must(tdr_shutdown(agent, NULL), "shutdown");
	free(set);
	return 0;
}
