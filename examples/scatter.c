/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asynchronous scatter and gather: tendril run -n 4 -- ./scatter
 *
 * Rank 0 cuts a vector in pieces, sends one to every worker at once, and adds up what comes back.
 */
#include "example.h"

#include <math.h>

enum {
	PIECE = 250000
};

/* The sum of the squares of a piece. */
static tdr_status square_sum(tdr_call *call, void *context)
{
	const tdr_tensor *piece = tdr_arg_tensor(call, 0);
	const double *numbers = tdr_tensor_data(piece);
	double sum = 0;

	if (tdr_tensor_dtype(piece) != TDR_F64 || !tdr_tensor_is_contiguous(piece))
		return tdr_fail(call, TDR_ETYPE, "scatter::square_sum takes contiguous f64 tensors");
	for (int64_t i = 0; i < tdr_tensor_numel(piece); i++)
		sum += numbers[i] * numbers[i];
	return tdr_return_float(call, sum);
}

static void scatter_and_gather(tdr_agent *agent)
{
	size_t count = tdr_worker_count(agent);
	tdr_future **futures = calloc(count, sizeof(*futures)), *all;
	double sum = 0, expected = 0;
	tdr_value *sums;

	for (size_t i = 0; i < count; i++) {
		tdr_worker worker;
		tdr_tensor *piece;
		double *numbers;

		must(tdr_worker_at(agent, i, &worker), "worker");
		must(tdr_tensor_empty(TDR_F64, TDR_SHAPE(PIECE), &piece), "tensor");
		numbers = tdr_tensor_data(piece);
		for (int k = 0; k < PIECE; k++) {
			numbers[k] = sqrt((double)(i * PIECE + (size_t)k));
			expected += (double)(i * PIECE + (size_t)k);
		}
		futures[i] = tdr_rpc_async(agent, worker.name, "scatter::square_sum", TDR_ARGS(piece), NULL);
		tdr_tensor_unref(piece);
	}
	all = tdr_future_collect(tdr_agent_engine(agent), count, futures);
	must(tdr_future_wait(all, TDR_TIMEOUT_NEVER, &sums), "gather");
	for (size_t i = 0; i < count; i++) {
		double part;

		must(tdr_value_get_float(tdr_value_item(sums, i), &part), "part");
		sum += part;
		tdr_future_unref(futures[i]);
	}
	printf("%zu workers summed %zu numbers: %.0f (expected %.0f)\n", count, count * PIECE, sum, expected);
	tdr_value_unref(sums);
	tdr_future_unref(all);
	free(futures);
	if (fabs(sum - expected) > 1e-6 * expected)
		exit(1);
}

int main(void)
{
	tdr_agent *agent = example_agent("worker");

	must(tdr_register(agent, "scatter::square_sum(Tensor piece) -> float", square_sum, NULL, 0), "register");
	must(tdr_join(agent), "join");
	if (tdr_agent_worker(agent).id == 0)
		scatter_and_gather(agent);
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
