"""The graph pass "variables": updates become sums, reads take what was written."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from tests import rewriting, spine

X = tf.constant(np.linspace(-1, 2, 12, dtype="float32").reshape(3, 4))
OTHER = tf.constant(np.linspace(3, 1, 12, dtype="float32").reshape(3, 4))


def variable(value=X, **kwargs) -> tf.Variable:
    with tf.device(f"{spine.device_type()}:0"):
        return tf.Variable(value, **kwargs)


def check(make, *arguments, variables=1, **counts) -> rewriting.Graph:
    """Runs `make(*variables)` with the pass, without, and eagerly on the CPU.

    Results and variables must agree; `counts` are numbers of ops in the rewritten graph, of reads
    those that have a reader.
    """
    outcomes = []
    for passes in ("variables", "none"):
        created = [variable() for _ in range(variables)]
        results, graph = rewriting.run(make(*created), *arguments, passes=passes)
        outcomes.append(tf.nest.flatten(results) + created)
        rewritten = graph if passes == "variables" else rewritten  # noqa: F821
    with tf.device("CPU:0"):
        created = [tf.Variable(X) for _ in range(variables)]
        results = make(*created)(*arguments)
        outcomes.append(tf.nest.flatten(results) + created)
    for got, unfused, cpu in zip(*outcomes, strict=True):
        assert np.array_equal(got, unfused)
        np.testing.assert_allclose(got, cpu, rtol=1e-6)
    for op, count in counts.items():
        found = rewritten.count_read(op) if op == "ReadVariableOp" else rewritten.count(op)
        assert found == count, f"{op}\n{rewriting.ops(rewritten.after)}"
    return rewritten


# --- fires ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("update, op", [("assign_add", "Add"), ("assign_sub", "Sub")])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64"])
def test_update(update, op, dtype):
    start, delta = tf.cast(X * 4, dtype), tf.cast(OTHER, dtype)
    v = variable(start)

    def function(x):
        getattr(v, update)(x * x * x)
        return x * x

    _, graph = rewriting.run(function, delta, passes="variables")
    assert graph.count(f"Assign{op}VariableOp") == 0
    assign = graph.node(f"Assign{op}VariableOp")
    assert assign.op == "AssignVariableOp" and assign.attr["validate_shape"].b
    assert graph.node(assign.input[1]).op == "AddN"
    assert graph.count("Neg") == (op == "Sub")
    with tf.device("CPU:0"):
        cube = delta * delta * delta
        expected = start + cube if op == "Add" else start - cube
    assert np.array_equal(v.numpy(), expected.numpy())


def test_a_read_takes_what_was_written():
    def make(v):
        def function(x):
            v.assign(x * 2.0)
            return v * v + x

        return function

    check(make, OTHER, ReadVariableOp=0, AssignVariableOp=1)


def test_a_chain_of_writes_and_reads():
    def make(v, w):
        def function(x):
            v.assign(x * 2.0)
            w.assign_add(v * 3.0)
            v.assign_sub(w * 0.5)
            w.assign(v + w)
            return v - w, v * w

        return function

    graph = check(make, OTHER, variables=2, ReadVariableOp=1)  # of w, by the first update
    assert graph.count("AssignSubVariableOp") == graph.count("AssignAddVariableOp") == 0


def test_a_write_lives_on_when_its_reader_is_gone():
    """The first write was ordered, and kept, by the read alone once edges had been reduced."""

    def make(v, w):
        def function(x):
            v.assign(x * 2.0)
            w.assign(v * 3.0)
            return x + x * x

        return function

    check(make, OTHER, variables=2, ReadVariableOp=0, AssignVariableOp=2)


def test_reads_of_one_value_become_one():
    def make(v):
        def function(x):
            first = v * x
            with tf.control_dependencies([first]):
                second = v.read_value() + 1.0
            v.assign(first)
            return first, second, v + 2.0

        return function

    check(make, OTHER, ReadVariableOp=1)


def test_branches():
    """Within the branch that writes, reads take its value; after the branches they read."""

    def make(v):
        def function(x, flag):
            def yes():
                v.assign(x * 3.0)
                return v + 1.0

            return tf.cond(flag, yes, lambda: v - 1.0) + v

        return function

    for flag in (True, False):
        check(make, OTHER, tf.constant(flag), AssignVariableOp=1, ReadVariableOp=2)


def test_iterations_that_wait_for_each_other():
    def make(v):
        def function(x):
            def body(i, total):
                v.assign_add(x * x)
                return i + 1, total + v

            _, total = tf.while_loop(lambda i, _: i < 3, body, (0, tf.zeros_like(x)))
            return total + v

        return function

    # One read for the update in the loop; what comes after the loop is not looked through.
    check(make, OTHER, AssignAddVariableOp=0, ReadVariableOp=2)


# --- must not fire -------------------------------------------------------------------------------


def test_a_lone_counter_stays_atomic():
    v = variable(0.0)

    def function(x):
        v.assign_add(1.0)
        return tf.exp(x) * x + x

    with tf.device(f"{spine.device_type()}:0"):
        compiled = tf.function(function)
        _, graphs = rewriting.recorded(lambda: compiled(X), "variables")
    assert graphs[0][-1].unchanged and graphs[0][-1].count("AssignAddVariableOp") == 1
    threads = [threading.Thread(target=lambda: [compiled(X) for _ in range(20)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert v.numpy() == 81.0


def test_an_update_of_another_shape_stays_an_error():
    v = variable(X, shape=tf.TensorShape(None))
    row = tf.TensorSpec((None,), tf.float32)

    def function(x):
        v.assign_add(tf.exp(x) * x + 1.0)
        return v * 2.0

    compiled = tf.function(function, input_signature=[row])
    with tf.device(f"{spine.device_type()}:0"), rewriting.environment(TF_METAL_GRAPPLER="all"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            compiled(X[0])
    fixed = variable(X[0])

    def narrow(x):
        fixed.assign_add(tf.exp(x) * x + 1.0)
        return fixed * 2.0

    compiled = tf.function(narrow, input_signature=[row])
    with tf.device(f"{spine.device_type()}:0"), rewriting.environment(TF_METAL_GRAPPLER="all"):
        compiled(X[1])
        with pytest.raises(tf.errors.InvalidArgumentError):
            compiled(X[0, :1])


def test_what_may_write_comes_between():
    def scatter(v):
        def function(x):
            v.assign(x * 2.0)
            v.scatter_add(tf.IndexedSlices(x[:1], tf.constant([1], tf.int64)))
            return v * 2.0 + x

        return function

    check(scatter, OTHER, ReadVariableOp=1)

    def python(v):
        def function(x):
            first = v * x
            with tf.control_dependencies([first]):
                done = tf.py_function(lambda t: v.assign(t * 5.0), [x], tf.float32)
            with tf.control_dependencies([done]):
                return first + v.read_value()

        return function

    check(python, OTHER, ReadVariableOp=2)

    def call(v):
        @tf.function(experimental_attributes={"_noinline": True})
        def inner(x):
            v.assign_add(x * x)
            return x + 1.0

        def function(x):
            v.assign(x)
            return inner(x) + v

        return function

    v = variable()
    with tf.device(f"{spine.device_type()}:0"):
        result, graphs = rewriting.recorded(lambda: tf.function(call(v))(OTHER), "variables")
    np.testing.assert_allclose(v.numpy(), OTHER + OTHER * OTHER, rtol=1e-6)
    np.testing.assert_allclose(result, OTHER + 1.0 + OTHER + OTHER * OTHER, rtol=1e-6)


# --- sessions ------------------------------------------------------------------------------------


def session(build, passes="variables"):
    """Builds a v1 graph and runs what `build` returns."""

    def body():
        with tf.Graph().as_default(), tf.device(f"{spine.device_type()}:0"):
            fetches, feeds = build()
            config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
            with tf.compat.v1.Session(config=config) as s:
                s.run(tf.compat.v1.global_variables_initializer())
                return s.run(fetches, feeds)

    result, graphs = rewriting.recorded(body, passes)
    return result, graphs[-1][-1]


def make_v1_variable():
    return tf.compat.v1.get_variable("v", initializer=np.ones((3, 4), "float32"), use_resource=True)


def test_session():
    def build():
        x = tf.compat.v1.placeholder(tf.float32, (3, 4))
        v = make_v1_variable()
        with tf.control_dependencies([tf.compat.v1.assign_add(v, x * x)]):
            read = v.read_value()
        return [tf.exp(read) + x, read, read * 2.0], {x: np.full((3, 4), 2, "float32")}

    (exponential, read, double), graph = session(build)
    assert np.all(read == 5) and np.all(double == 10)
    np.testing.assert_allclose(exponential, np.exp(5) + 2, rtol=1e-6)
    assert graph.count("ReadVariableOp") == 1  # the update's


def test_accesses_in_any_order_are_left_alone():
    def build():
        x = tf.compat.v1.placeholder(tf.float32, (3, 4))
        v = make_v1_variable()
        first = v.assign_add(x * x, read_value=False)
        second = v.assign_add(x * 3.0, read_value=False)
        with tf.control_dependencies([first]):
            read = v.read_value() + x
        with tf.control_dependencies([first, second]):
            last = v.read_value() + x
        return [read, last, first, second], {x: np.full((3, 4), 2, "float32")}

    (_, last, _, _), graph = session(build)
    assert np.all(last == 1 + 4 + 6 + 2)
    assert graph.count("AssignAddVariableOp") == 2 and graph.count("ReadVariableOp") == 2


def test_iterations_that_overlap_are_left_alone():
    """The next iteration need not wait for the update: a sum of its own could be lost."""

    def build():
        x = tf.compat.v1.placeholder(tf.float32, (3, 4))
        v = make_v1_variable()

        def body(i, total):
            with tf.control_dependencies([v.assign_add(x * x, read_value=False)]):
                doubled = total * 2.0
            return i + 1, doubled

        tf.compat.v1.disable_control_flow_v2()
        _, total = tf.compat.v1.while_loop(lambda i, _: i < 3, body, (tf.constant(0), x))
        tf.compat.v1.enable_control_flow_v2()
        with tf.control_dependencies([total]):
            return [v.read_value(), total], {x: np.full((3, 4), 2, "float32")}

    (value, total), graph = session(build)
    assert np.all(total == 16) and graph.count("LoopCond") == 1
    assert graph.count("AssignAddVariableOp") == 1
    assert np.all(value <= 13)
