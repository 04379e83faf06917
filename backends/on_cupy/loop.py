"""The loop of CuPy: the device goes from step to step by itself.

Each of the steps is recorded as one CUDA graph for each shape of a batch. What changes from step to step, the numbers
of the examples and those of the optimizer, goes to the device once for a chunk of steps. A counter there picks the row
whose turn it is; the last launch of a step puts the loss to its place and moves the counter on. So the host launches
the same graph again and again, and passes nothing.

What a graph does is fixed when it is recorded, down to the addresses that its kernels read and write. So a step updates
parameters, state and slots in place. Examples that stay where they are, such as a data set, are read there; those that
move, as in a stream, are first copied to where the graph reads them. The first step of each shape is computed as it is
recorded later, but at once: that compiles and loads the kernels and fills the pool of memory, and it is a step like any
other. When arrays that have to stay have moved, because somebody has replaced the parameters, the graphs are given up,
and all this begins anew.

Steps that cannot be recorded are computed kernel by kernel, and the log says why, as a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import cupy

from portnn import tree
from portnn.backend import first_line
from portnn.errors import BackendError
from portnn.loop import Compiler, Loop

from .choices import Choices
from .chunk import Chunk, Form, real_of
from .recording import Recorder, check_apart, in_place, kind_of, leaves_of

__all__ = ["GraphLoop"]

_log = logging.getLogger(__name__)

#: The most steps of a chunk, and the most numbers of examples in it.
_MOST, _MOST_ROWS = 1024, 2**20

#: Shapes of batches, each of which keeps memory, and how often graphs are given up, before we stop making them.
_MOST_FORMS = 8
_MOST_MOVES = 16

#: So many launches between two moves make up for the graphs that are given up: such moves are not counted.
_WORTH = 32


class GraphLoop(Loop):
    """The steps as CUDA graphs.

    Attributes
    ----------
    steps : list of callable
        As they were given.
    graphs : int
        How many graphs there are.
    reason : str or None
        Why the steps are not recorded; None as long as they are.
    """

    def __init__(self, backend: Compiler, steps: Sequence[Callable[..., Any]], tf32: bool) -> None:
        super().__init__(backend, ())
        self.steps, self._tf32 = list(steps), tf32
        self.reason: str | None = None
        self._forms: dict[Any, Form] = {}
        self._recorder: Recorder | None = None
        self._choices = Choices()
        self._moves, self._launches, self._said = 0, 0, False
        self._ended: Any = None

    @property
    def graphs(self) -> int:
        return sum(len(form.graphs) for form in self._forms.values())

    @property
    def choices(self) -> dict[str, Any]:
        return self._choices.told()

    def adopt(self, choices: Mapping[str, Any]) -> None:
        self._choices.adopt(choices)

    def most(self, size: int) -> int:
        return 1 if self.reason else max(1, min(_MOST, _MOST_ROWS // max(size, 1)))

    def run(
        self,
        carry: tuple[Any, Any, Any],
        data: Any,
        rows: Sequence[Any],
        turns: Sequence[int],
        hyper: Sequence[Mapping[str, Any]],
    ) -> tuple[tuple[Any, Any, Any], Any]:
        losses: list[Any] = []
        done, room = 0, self.most(len(rows[0]))
        while done < len(rows) and self.reason is None:
            some = slice(done, done + room)
            chunk, form = Chunk(carry, rows[some], turns[some], hyper[some]), None
            try:
                form = self._form(chunk, data)
                if form is not None:
                    self._do(form, chunk, data)
            except Exception as error:  # of CUDA, CuPy, or somebody's layer: whatever it is, the plain steps decide
                self._give_up(first_line(error))
            # What is done is not done again: if this fails, the run ends.
            if form is not None and chunk.done:
                losses.append(form.keep(chunk))
            elif self.reason is None:
                losses += self._do_in_place(chunk, data)
            carry, done = chunk.carry, done + chunk.done
        if done < len(rows):
            carry, rest = super().run(carry, data, rows[done:], turns[done:], hyper[done:])
            losses += rest
        elif len(rows) > 1:
            self._wait()
        return carry, losses

    def floats(self, chunks: Sequence[Any]) -> list[float]:
        parts = [cupy.reshape(part, (-1,)) for losses in chunks for part in losses]
        return [float(loss) for loss in cupy.asnumpy(cupy.concatenate(parts))] if parts else []

    def _wait(self) -> None:
        """Until the chunk before this one is done: two are on their way, and a clock sees what they take."""
        before, self._ended = self._ended, cupy.cuda.get_current_stream().record()
        if before is not None:
            before.synchronize()

    def _form(self, chunk: Chunk, data: Any) -> Form | None:
        """What is known of such batches; None where there are too many kinds of them."""
        key = len(chunk.rows[0]), tuple([kind_of(leaf) for leaf in data])
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) == _MOST_FORMS:
                self._say_too_many()
                return None
            form = self._forms[key] = Form(key[0], self.most(key[0]), real_of(chunk.carry))
        elif form.moved(chunk.carry, data):
            form.forget()
            self._moves = 0 if self._launches >= _WORTH else self._moves + 1
            self._launches = 0
            if self._moves == _MOST_MOVES:
                raise BackendError("its arrays are replaced again and again")
        return form

    def _do(self, form: Form, chunk: Chunk, data: Any) -> None:
        """The steps of a chunk, which is told of each one that is done."""
        if self._recorder is None:
            self._recorder = Recorder(self._tf32, self._choices)
        form.bring(chunk, data)
        graphs = form.graphs
        for turn in chunk.turns:
            graph = graphs.get(turn)
            if graph is None:
                if turn not in form.rehearsed:
                    self._rehearse(self._recorder, form, chunk, data, turn)
                    continue
                body = form.body(self.steps[turn], chunk.carry, data, turn)
                graph, _ = self._recorder.record(body)
                graphs[turn] = graph
            graph.launch()
            chunk.done += 1
            self._launches += 1

    def _do_in_place(self, chunk: Chunk, data: Any) -> list[Any]:
        """The steps kernel by kernel, where graphs of other shapes expect the results to be."""
        losses: list[Any] = []
        for index, turn, numbers in zip(chunk.rows, chunk.turns, chunk.hyper, strict=True):
            batch = data.batch(self._backend.asarray(index))
            losses += in_place(self.steps[turn], (*chunk.carry, batch, numbers))
            chunk.done += 1
        return losses

    def _rehearse(self, recorder: Recorder, form: Form, chunk: Chunk, data: Any, turn: int) -> None:
        """Do a step as it will be recorded; if it fails in the middle, the chunk has copies of what it changes."""
        given = chunk.carry
        check_apart(leaves_of(given))
        chunk.carry = tree.map(cupy.copy, given)
        recorder.compute(form.body(self.steps[turn], given, data, turn))
        chunk.carry = given
        chunk.done += 1
        form.rehearsed.add(turn)

    def _say_too_many(self) -> None:
        if not self._said:
            self._said = True
            _log.warning(
                "a training step has met more than %d shapes: further ones are computed kernel by kernel", _MOST_FORMS
            )

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        with suppress(Exception):  # that is said already
            cupy.cuda.get_current_stream().synchronize()  # graphs may be running
        self._forms.clear()
        self._recorder = None
        _log.warning("the training step is computed kernel by kernel, not as a CUDA graph: %s", reason)
