"""The model in PyTorch: `nn.LSTM` and `nn.Linear`, a training step a call and a validation pass. One thread,
f32."""

import numpy as np
import torch
from torch import nn

from text import SYMBOLS

LEARNING_RATE, CLIP_NORM = 10.0, 1.25

torch.set_num_threads(1)
torch.set_num_interop_threads(1)


class Trainer:
    """A run that trains one step at a call and waits for its loss; it stays below the first decay of the rate."""

    steps_per_call = 1

    def __init__(self, weights, batch_size):
        nodes = weights.recurrent.shape[0]
        self.lstm, self.classifier = nn.LSTM(SYMBOLS, nodes), nn.Linear(nodes, SYMBOLS)
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(torch.tensor(weights.input.T))
            self.lstm.weight_hh_l0.copy_(torch.tensor(weights.recurrent.T))
            self.lstm.bias_ih_l0.copy_(torch.tensor(weights.bias))
            self.lstm.bias_hh_l0.zero_()
            self.classifier.weight.copy_(torch.tensor(weights.classifier.T))
            self.classifier.bias.copy_(torch.tensor(weights.classifier_bias))
        # The model has one bias; PyTorch's second one stays at zero.
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.parameters = [
            p for part in (self.lstm, self.classifier) for p in part.parameters() if p.requires_grad
        ]
        self.sgd = torch.optim.SGD(self.parameters, lr=LEARNING_RATE)
        self.one_hot = torch.eye(SYMBOLS)
        self.state = (torch.zeros(1, batch_size, nodes), torch.zeros(1, batch_size, nodes))

    def feed(self, columns):
        """Columns `[1, T + 1, B]` as `train` takes them."""
        return torch.tensor(columns[0], dtype=torch.long)

    def train(self, feed):
        outputs, state = self.lstm(self.one_hot[feed[:-1]], self.state)
        self.state = tuple(part.detach() for part in state)
        logits = self.classifier(outputs).view(-1, SYMBOLS)
        loss = nn.functional.cross_entropy(logits, feed[1:].reshape(-1))
        self.sgd.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.sgd.step()
        return loss.item()

    @torch.no_grad()
    def validate(self, symbols):
        symbols = torch.as_tensor(np.asarray(symbols), dtype=torch.long)
        outputs, _ = self.lstm(self.one_hot[symbols[:-1]].unsqueeze(1))
        chances = nn.functional.softmax(self.classifier(outputs).squeeze(1), dim=1)
        chosen = chances.gather(1, symbols[1:].unsqueeze(1)).clamp_min(1e-10)
        return float(torch.exp(-chosen.log().mean()))


def version():
    return f"PyTorch {torch.__version__.split('+')[0]}"
