# SPDX-License-Identifier: Apache-2.0
"""A program for torch.distributed.rpc, as it stands: a parameter server that answers all trainers at once.

    tendril run -n 4 -- python3 -m tendril.torch torch_batching.py

Rank 0 has the model. A trainer sends its gradients, and its call ends when all trainers have sent theirs: then the
server has taken one step, and every one of them gets the new parameters. No thread waits for that, since the function
returns a future. `torchrun --nproc_per_node 4 torch_batching.py` runs the same program on PyTorch's own agent.
"""

import os
import threading

import torch
import torch.distributed.rpc as rpc

STEPS = 60
ROWS = 32
TRUTH = torch.tensor([[2.0], [-3.0], [0.5], [1.0]])


class Server:
    """The parameters, and the gradients of the step that is under way."""

    def __init__(self, trainers):
        self.lock = threading.Lock()
        self.trainers = trainers
        self.weights = torch.zeros(len(TRUTH), 1)
        self.optimizer = torch.optim.SGD([self.weights], lr=0.2)
        self.begin()

    def begin(self):
        self.weights.grad = torch.zeros_like(self.weights)
        self.waiting = 0
        self.next_weights = torch.futures.Future()

    def pull(self):
        return self.weights.clone()

    @staticmethod
    @rpc.functions.async_execution
    def step(rref, gradient):
        self = rref.local_value()
        with self.lock:
            self.weights.grad += gradient / self.trainers
            self.waiting += 1
            answer = self.next_weights
            if self.waiting == self.trainers:
                self.optimizer.step()
                answer.set_result(self.weights.clone())
                self.begin()
        return answer


def train(server, seed):
    """Runs on each trainer."""
    torch.manual_seed(seed)
    inputs = torch.randn(ROWS, len(TRUTH))
    targets = inputs @ TRUTH
    weights = server.rpc_sync().pull()
    for _ in range(STEPS):
        weights.requires_grad_()
        loss = torch.nn.functional.mse_loss(inputs @ weights, targets)
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = rpc.rpc_sync(server.owner(), Server.step, args=(server, gradient))
    return loss.item()


def main():
    torch.set_num_threads(1)  # several ranks share this machine
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    rpc.init_rpc("server" if rank == 0 else f"trainer{rank}", rank=rank, world_size=world_size)
    if rank == 0:
        server = rpc.RRef(Server(world_size - 1))
        futures = [
            rpc.rpc_async(f"trainer{other}", train, args=(server, other)) for other in range(1, world_size)
        ]
        losses = torch.futures.wait_all(futures)
        learnt = server.local_value().weights
        print(f"{STEPS} steps of {world_size - 1} trainers: loss {max(losses):.6f}")
        print("learnt " + " ".join(f"{weight:.2f}" for weight in learnt.flatten()))
        assert torch.allclose(learnt, TRUTH, atol=0.01), learnt
    rpc.shutdown()


if __name__ == "__main__":
    main()
