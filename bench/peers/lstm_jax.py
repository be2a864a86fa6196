"""The model in JAX: a training step, many steps in one call, a validation pass. One thread, f32.

`jit` keeps compiled code per shape for the life of the process.
"""

import os

# XLA reads these when JAX is first imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weights import Weights

LEARNING_RATE, DECAY_RATE, DECAY_STEPS, CLIP_NORM = 10.0, 0.1, 5000, 1.25


class Progress(NamedTuple):
    """What a step hands to the next one."""

    weights: Weights
    h: jax.Array  # [B, N]
    c: jax.Array  # [B, N]
    step: jax.Array


def begin(weights, batch_size):
    zero = np.zeros((batch_size, weights.recurrent.shape[0]), np.float32)
    # Copies of what NumPy holds need no code to be compiled for their shapes.
    return jax.tree.map(jnp.array, Progress(weights, zero, zero, np.int32(0)))


def cell(weights, x, h, c):
    """One time step; `x` is the input's share of the gates, bias included."""
    i, f, g, o = jnp.split(x + h @ weights.recurrent, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def loss(weights, h, c, columns):
    inputs, labels = columns[:-1], columns[1:]

    def forward(state, x):
        state = cell(weights, x, *state)
        return state, state[0]

    # A one-hot product is a gather.
    state, outputs = jax.lax.scan(forward, (h, c), weights.input[inputs] + weights.bias)
    logits = outputs.reshape(-1, h.shape[1]) @ weights.classifier + weights.classifier_bias
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels.reshape(-1, 1), axis=1)
    return -jnp.mean(chosen), state


def one_step(progress, columns):
    """Columns are `[T + 1, B]`. Returns the progress and the loss before the update."""
    weights, h, c, step = progress
    (value, (h, c)), gradients = jax.value_and_grad(loss, has_aux=True)(weights, h, c, columns)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
    rate = LEARNING_RATE * DECAY_RATE ** jnp.floor(step / DECAY_STEPS)
    factor = rate * jnp.minimum(1.0, CLIP_NORM / norm)
    weights = jax.tree.map(lambda weight, gradient: weight - factor * gradient, weights, gradients)
    return Progress(weights, h, c, step + 1), value


train_one = jax.jit(one_step, donate_argnums=0)
"""A step a call: columns `[T + 1, B]`."""

train_many = jax.jit(lambda progress, chunk: jax.lax.scan(one_step, progress, chunk), donate_argnums=0)
"""A step for each of a chunk: columns `[K, T + 1, B]`, losses `[K]`."""


@jax.jit
def perplexity(weights, symbols):
    """Over a text whose last symbol is only predicted, at batch 1, in one compiled call."""

    def forward(state, pair):
        h, c = cell(weights, weights.input[pair[0]] + weights.bias, *state)
        chances = jax.nn.softmax(h @ weights.classifier + weights.classifier_bias)
        return (h, c), -jnp.log(jnp.maximum(chances[0, pair[1]], 1e-10))

    zero = jnp.zeros((1, weights.recurrent.shape[0]), jnp.float32)
    pairs = jnp.stack([symbols[:-1], symbols[1:]], axis=1)
    return jnp.exp(jnp.mean(jax.lax.scan(forward, (zero, zero), pairs)[1]))


class Trainer:
    """A run that trains `steps_per_call` steps at a call and waits for the loss of each."""

    def __init__(self, weights, batch_size, steps_per_call):
        self.steps_per_call = steps_per_call
        self.progress = begin(weights, batch_size)

    def feed(self, columns):
        """Columns `[K, T + 1, B]` as `train` takes them."""
        return columns if self.steps_per_call > 1 else columns[0]

    def train(self, feed):
        train = train_many if self.steps_per_call > 1 else train_one
        self.progress, losses = train(self.progress, feed)
        return np.asarray(losses)

    def validate(self, symbols):
        return float(perplexity(self.progress.weights, symbols))


def version():
    return f"JAX {jax.__version__}"
