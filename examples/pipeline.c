/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pipeline of three workers that pass references: tendril run -n 4 -- ./pipeline digits.csv.gz
 *
 * Rank 1 reads images of handwritten digits, rank 2 measures how far each test image is from each training image, rank
 * 3 takes the nearest for an answer. A stage is given a reference to what the one before has made, fetches it from
 * there, and keeps what it makes. Rank 0 drives: it makes all calls at once, and sees the last result alone, a table of
 * 10 x 10.
 */
#include "digits/dataset.h"
#include "example.h"

#include <string.h>

/* ---- the arithmetic: no calls ---- */

/* The square of the distance of each of `ntests` images to each of `ntrainings`. */
static void measure(const float *tests, int64_t ntests, const float *trainings, int64_t ntrainings, float *distances)
{
	for (int64_t i = 0; i < ntests; i++) {
		for (int64_t j = 0; j < ntrainings; j++) {
			float sum = 0;

			for (int k = 0; k < PIXELS; k++) {
				float apart = tests[i * PIXELS + k] - trainings[j * PIXELS + k];

				sum += apart * apart;
			}
			distances[i * ntrainings + j] = sum;
		}
	}
}

/* table[a][b]: how many test images of the digit a are nearest to a training image of the digit b. */
static void judge(const float *distances, const int32_t *test_labels, int64_t ntests, const int32_t *training_labels,
                  int64_t ntrainings, int64_t table[CLASSES * CLASSES])
{
	memset(table, 0, CLASSES * CLASSES * sizeof(table[0]));
	for (int64_t i = 0; i < ntests; i++) {
		const float *row = distances + i * ntrainings;
		int64_t nearest = 0;

		for (int64_t j = 1; j < ntrainings; j++)
			nearest = row[j] < row[nearest] ? j : nearest;
		table[test_labels[i] * CLASSES + training_labels[nearest]]++;
	}
}

/* ---- the stages ---- */

/* What a reference among the arguments stands for, fetched from its owner: a tuple of `count` tensors. */
static tdr_status fetch(tdr_call *call, size_t index, size_t count, tdr_value **ret_value, tdr_tensor *ret_tensors[])
{
	tdr_value *value;
	tdr_status status = tdr_rref_to_here(tdr_arg_rref(call, index), TDR_TIMEOUT_DEFAULT, &value);

	if (status != TDR_OK)
		return status;
	for (size_t i = 0; i < count && status == TDR_OK; i++)
		status = tdr_value_get_tensor(tdr_value_item(value, i), &ret_tensors[i]);
	if (status == TDR_OK)
		*ret_value = value;
	else
		tdr_value_unref(value);
	return status;
}

/* Returns (test images, test labels, training images, training labels). */
static tdr_status load(tdr_call *call, void *context)
{
	struct dataset *set = dataset_read(tdr_arg_string(call, 0));
	int64_t ntrainings = set->training_rows, ntests = set->rows - ntrainings;
	tdr_tensor *tensors[4] = {NULL};
	tdr_status status;

	status = tdr_tensor_copy_of(set->pixels[ntrainings], TDR_F32, TDR_SHAPE(ntests, PIXELS), &tensors[0]);
	if (status == TDR_OK)
		status = tdr_tensor_copy_of(set->labels + ntrainings, TDR_I32, TDR_SHAPE(ntests), &tensors[1]);
	if (status == TDR_OK)
		status = tdr_tensor_copy_of(set->pixels, TDR_F32, TDR_SHAPE(ntrainings, PIXELS), &tensors[2]);
	if (status == TDR_OK)
		status = tdr_tensor_copy_of(set->labels, TDR_I32, TDR_SHAPE(ntrainings), &tensors[3]);
	if (status == TDR_OK)
		status = tdr_return(call, TDR_ARGS(tensors[0], tensors[1], tensors[2], tensors[3]));
	for (int i = 0; i < 4; i++)
		tdr_tensor_unref(tensors[i]);
	free(set);
	return status;
}

/* Of what load returned makes (distances, test labels, training labels). */
static tdr_status distances(tdr_call *call, void *context)
{
	tdr_tensor *in[4], *out;
	tdr_value *input;
	int64_t ntests, ntrainings;
	tdr_status status = fetch(call, 0, 4, &input, in);

	if (status != TDR_OK)
		return status;
	ntests = tdr_tensor_sizes(in[0])[0];
	ntrainings = tdr_tensor_sizes(in[2])[0];
	status = tdr_tensor_empty(TDR_F32, TDR_SHAPE(ntests, ntrainings), &out);
	if (status == TDR_OK) {
		measure(tdr_tensor_data(in[0]), ntests, tdr_tensor_data(in[2]), ntrainings, tdr_tensor_data(out));
		status = tdr_return(call, TDR_ARGS(out, in[1], in[3]));
		tdr_tensor_unref(out);
	}
	tdr_value_unref(input);
	return status;
}

/* Of what distances returned makes a table of 10 x 10. */
static tdr_status answers(tdr_call *call, void *context)
{
	tdr_tensor *in[3], *table;
	tdr_value *input;
	tdr_status status = fetch(call, 0, 3, &input, in);

	if (status != TDR_OK)
		return status;
	status = tdr_tensor_empty(TDR_I64, TDR_SHAPE(CLASSES, CLASSES), &table);
	if (status == TDR_OK) {
		judge(tdr_tensor_data(in[0]), tdr_tensor_data(in[1]), tdr_tensor_numel(in[1]), tdr_tensor_data(in[2]),
		      tdr_tensor_numel(in[2]), tdr_tensor_data(table));
		status = tdr_return_tensor(call, table);
		tdr_tensor_unref(table);
	}
	tdr_value_unref(input);
	return status;
}

/* ---- the driver ---- */

/* The same, all in this process. */
static void compute_here(const char *path, int64_t table[CLASSES * CLASSES])
{
	struct dataset *set = dataset_read(path);
	int64_t ntrainings = set->training_rows, ntests = set->rows - ntrainings;
	float *apart = calloc((size_t)(ntests * ntrainings), sizeof(*apart));

	if (!apart)
		exit(1);
	measure(set->pixels[ntrainings], ntests, set->pixels[0], ntrainings, apart);
	judge(apart, set->labels + ntrainings, ntests, set->labels, ntrainings, table);
	free(apart);
	free(set);
}

static void drive(tdr_agent *agent, const char *path)
{
	tdr_rref *loaded = tdr_remote(agent, "worker1", "pipeline::load", TDR_ARGS(path), NULL);
	tdr_rref *measured = tdr_remote(agent, "worker2", "pipeline::distances", TDR_ARGS(loaded), NULL);
	tdr_rref *judged = tdr_remote(agent, "worker3", "pipeline::answers", TDR_ARGS(measured), NULL);
	int64_t here[CLASSES * CLASSES], all = 0, right = 0;
	tdr_tensor *table;
	tdr_value *result;
	bool same;

	must(tdr_rref_to_here(judged, TDR_TIMEOUT_DEFAULT, &result), "pipeline");
	must(tdr_value_get_tensor(result, &table), "table");
	compute_here(path, here);
	for (int i = 0; i < CLASSES * CLASSES; i++) {
		all += here[i];
		right += i / CLASSES == i % CLASSES ? here[i] : 0;
	}
	same = tdr_tensor_numel(table) == CLASSES * CLASSES && memcmp(tdr_tensor_data(table), here, sizeof(here)) == 0;
	printf("%lld of %lld test digits read; %s as without the pipeline\n", (long long)right, (long long)all,
	       same ? "the same" : "NOT the same");
	tdr_value_unref(result);
	tdr_rref_unref(judged);
	tdr_rref_unref(measured);
	tdr_rref_unref(loaded);
	if (!same)
		exit(1);
}

/* How much each worker has received so far. */
static void print_traffic(tdr_agent *agent)
{
	tdr_value *info, *infos;
	int64_t received;

	must(tdr_debug_info(agent, &info), "metrics");
	must(tdr_all_gather(agent, info, 0, NULL, TDR_TIMEOUT_DEFAULT, &infos), "gather");
	for (size_t i = 0; i < tdr_value_count(infos) && tdr_agent_worker(agent).id == 0; i++) {
		const char *name;

		must(tdr_value_get_string(tdr_dict_key(infos, i), &name, NULL), "name");
		must(tdr_value_get_int(tdr_dict_get(tdr_dict_value(infos, i), "agent.bytes_received"), &received),
		     "bytes");
		printf("%s received %9lld bytes\n", name, (long long)received);
	}
	tdr_value_unref(infos);
}

int main(int argc, char **argv)
{
	tdr_agent *agent = example_agent("worker");

	must(tdr_register(agent, "pipeline::load(str path) -> (Tensor, Tensor, Tensor, Tensor)", load, NULL, 0),
	     "register");
	must(tdr_register(agent, "pipeline::distances(RRef loaded) -> (Tensor, Tensor, Tensor)", distances, NULL, 0),
	     "register");
	must(tdr_register(agent, "pipeline::answers(RRef measured) -> Tensor", answers, NULL, 0), "register");
	must(tdr_join(agent), "join");
	if (argc != 2 || tdr_worker_count(agent) != 4) {
		fprintf(stderr, "usage: tendril run -n 4 -- %s digits.csv.gz\n", argv[0]);
		return 2;
	}
	if (tdr_agent_worker(agent).id == 0)
		drive(agent, argv[1]);
	must(tdr_barrier(agent, 0, NULL, TDR_TIMEOUT_NEVER), "barrier");
	print_traffic(agent);
	must(tdr_shutdown(agent, NULL), "shutdown");
	return 0;
}
