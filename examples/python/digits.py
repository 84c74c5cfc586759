# SPDX-License-Identifier: Apache-2.0
"""Trainers in Python and a parameter server in C learn handwritten digits.

    tendril run -n 3 -- sh -c \
        'if [ $RANK = 0 ]; then exec build/examples/digits_server; else exec python3 digits.py digits.csv.gz; fi'

Rank 0 is the C program examples/digits/server.c: the model is an object of its own, "digits::Model". Rank 1 has one
made there and hands the other trainers a reference to it. Each pulls the weights, computes a gradient on a batch of its
share of the rows, and pushes that, again and again. At the end rank 1 prints the accuracy on rows that nobody trained
on.
"""

import gzip
import os
import sys

import numpy as np

from tendril import rpc

EPOCHS = 12
BATCH = 16
LEARNING_RATE = 0.1
CLASSES = 10


def read(path):
    """Pixels [1797, 65], the last column being 1 for the bias, and labels [1797], shuffled alike on every worker."""
    with gzip.open(path) as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)
    rows = np.random.default_rng(0).permutation(rows)
    pixels = np.hstack([rows[:, :-1] / 16, np.ones((len(rows), 1), np.float32)])
    return pixels, rows[:, -1].astype(int)


def gradient_of(weights, pixels, labels):
    """The gradient of the mean cross-entropy by the weights [65, 10], and that mean."""
    scores = pixels @ weights
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(shares[rows, labels]).mean()
    shares[rows, labels] -= 1
    return pixels.T @ shares / len(labels), float(loss)


def train(model, share, shares):
    """Trains the model on one share of the rows; runs on every trainer."""
    pixels, labels = read(sys.argv[1])
    rows = np.array_split(np.arange(len(labels) * 4 // 5), shares)[share]
    server = model.rpc_sync()  # what is called on it runs in C
    for _ in range(EPOCHS):
        for at in range(0, len(rows) - BATCH + 1, BATCH):
            batch = rows[at : at + BATCH]
            gradient, loss = gradient_of(server.pull(), pixels[batch], labels[batch])
            version = server.push(gradient, loss=loss, lr=LEARNING_RATE)
    return version


def drive():
    """Has a model made, and all trainers train it."""
    trainers = [f"trainer{rank}" for rank in range(1, int(os.environ["WORLD_SIZE"]))]
    model = rpc.remote("ps", rpc.ops.digits.Model)
    futures = [
        rpc.rpc_async(name, train, args=(model, share, len(trainers)), timeout=0)
        for share, name in enumerate(trainers)
    ]
    version = max(future.wait() for future in futures)

    pixels, labels = read(sys.argv[1])
    test = slice(len(labels) * 4 // 5, None)
    guesses = (pixels[test] @ model.rpc_sync().pull()).argmax(axis=1)
    accuracy = (guesses == labels[test]).mean()
    print(f"{len(trainers)} trainers in Python pushed {version} gradients to a model in C")
    print(f"{len(guesses)} test digits, accuracy {accuracy:.3f}")
    if accuracy < 0.9:
        sys.exit("the model has not learnt: an accuracy of 0.90 was expected")


if __name__ == "__main__":
    rank = int(os.environ["RANK"])
    with rpc.session(f"trainer{rank}", rank=rank, world_size=int(os.environ["WORLD_SIZE"])):
        if rank == 1:
            drive()
