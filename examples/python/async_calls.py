# SPDX-License-Identifier: Apache-2.0
"""Calls that are awaited, and functions defined with `async def`.

    tendril run -n 3 -- python3 async_calls.py

Rank 0 asks two shops for the prices of a thousand articles, all at once. Each question is a coroutine on the shop's
event loop, which may itself await others: here it asks the wholesaler, rank 0. So two thousand questions are under way
together, and none of them has a thread.
"""

import asyncio
import os

from tendril import rpc

ARTICLES = 1000

under_way = 0
most_under_way = 0


async def wholesale(article):
    """The price that shops pay; runs on rank 0."""
    await asyncio.sleep(0.5)
    return 10 * article


async def price(article):
    """What an article costs here; runs at a shop."""
    global under_way, most_under_way
    under_way += 1
    most_under_way = max(most_under_way, under_way)
    try:
        paid = await rpc.rpc_async("wholesaler", wholesale, args=(article,))
    finally:
        under_way -= 1
    return paid + rpc.get_worker_info().id


def busiest():
    return most_under_way


async def main(shops):
    """Runs on rank 0, in an event loop of the program's own."""
    questions = [rpc.rpc_async(shop, price, args=(article,)) for article in range(ARTICLES) for shop in shops]
    prices = await asyncio.gather(*questions)
    expected = [10 * article + number for article in range(ARTICLES) for number in range(1, len(shops) + 1)]
    assert prices == expected, prices
    most = sum(await asyncio.gather(*(rpc.rpc_async(shop, busiest) for shop in shops)))
    print(f"{len(prices)} answers; up to {most} questions were under way at once")


if __name__ == "__main__":
    rank = int(os.environ["RANK"])
    world_size = int(os.environ["WORLD_SIZE"])
    with rpc.session("wholesaler" if rank == 0 else f"shop{rank}", rank=rank, world_size=world_size):
        if rank == 0:
            asyncio.run(main([f"shop{other}" for other in range(1, world_size)]))
