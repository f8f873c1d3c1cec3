"""Own operators: functions of streams, processors, native ones."""

from typing import ClassVar

from streamdsl import Processor, col, count, native, operator, rolling, tumbling
from streamdsl.compiler import compile
from tests.dsl.fakes import FakeSink, payments, refused
from tests.dsl.test_stream import logical


@operator
def velocity(rows, *, limit=3):
    """Rows of accounts with many others shortly before."""
    return rows.with_columns(recent=count()).filter(col("recent") >= limit)


class Probe(Processor):
    """Does nothing, with two outputs."""

    output: ClassVar = {"id": int}
    outputs: ClassVar = {"odd": {"id": int, "why": str}}

    def process(self, row, ctx):
        """Drop the row."""


class Windowed(Processor):
    """Takes windows."""

    output: ClassVar = {"n": int}

    def process_window(self, key, window, rows, ctx):
        """Emit nothing."""


def accounts():
    topology, stream = payments()
    return topology, stream.key_by("account")


def test_functions_expand_into_their_verbs():
    topology, keyed = accounts()
    keyed.window(rolling("1m")).process(velocity(limit=5)).to(FakeSink())
    assert logical(topology)[2:4] == [
        '%2 = frame %1: recent = count() over rolling("1m")  [state frame.account.recent.rolling_1m]',
        "%3 = filter %2: recent >= 5",
    ]


def test_settings_have_defaults():
    topology, keyed = accounts()
    keyed.window(rolling("1m")).process(velocity).to(FakeSink())
    assert "recent >= 3" in "\n".join(logical(topology))
    assert velocity.__doc__ == "Rows of accounts with many others shortly before."


def test_a_name_goes_before_all_names_within():
    topology, keyed = accounts()
    result = keyed.window(rolling("1m")).process(velocity(), name="fast")
    result.with_columns(n=count()).to(FakeSink())
    assert compile(topology).logical.state_names == ("fast.frame.account.recent.rolling_1m", "frame.account.n.rolling_1m")


def test_processors():
    topology, keyed = accounts()
    probe = keyed.process(Probe)
    probe.to(FakeSink())
    probe.output("odd").to(FakeSink("odd"))
    keyed.process(Probe(), name="second").to(FakeSink("second"))
    assert logical(topology)[2:] == [
        "%2 = process %1: Probe -> (id)  [state process.account.Probe]",
        "%3 = sink %2: out (id)",
        "%4 = output %2: odd",
        "%5 = sink %4: odd (id, why)",
        "%6 = process %1: Probe -> (id)  [state second]",
        "%7 = sink %6: second (id)",
    ]


def test_processors_of_windows():
    topology, keyed = accounts()
    keyed.window(tumbling("1m")).process(Windowed).to(FakeSink())
    assert logical(topology)[2] == '%2 = process %1: Windowed window tumbling("1m") -> (n)  [state process.account.Windowed.tumbling_1m]'
    with refused("Probe has no process_window"):
        keyed.window(tumbling("1m")).process(Probe)


def test_native_operators_get_exactly_the_visible_columns():
    topology, keyed = accounts()

    def factory():
        return None

    keyed.select("id", "account").process(native(factory, output={"id": int})).to(FakeSink())
    assert logical(topology)[3] == "%3 = native %2: factory -> (id)  [state native.account.factory]"


def test_refused():
    _, keyed = accounts()
    with refused("operator velocity", "unexpected keyword argument 'limt'", "limit=3"):
        velocity(limt=3)
    with refused("given by name", "stream.process(velocity(limit=3))"):
        velocity(keyed)

    @operator
    def forgetful(rows):
        rows.filter(col("id") > 1)

    with refused("the operator forgetful returned None, not a stream", "return stream"):
        keyed.process(forgetful())
    with refused("process(Probe) keeps state by key", ".key_by(...)"):
        payments()[1].process(Probe)

    class Silent(Processor):
        pass

    with refused("Silent does not say what its rows look like", "class attribute output"):
        keyed.process(Silent)
    with refused("belongs to the verbs inside"):
        keyed.process(velocity(), errors="skip")
