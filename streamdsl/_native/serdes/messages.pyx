"""A client's messages to columns. Not kept as messages: each is an object that the garbage collector would look at again and again."""
from array import array

from cpython.array cimport array as Array, clone, resize
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t

cdef Array OFFSETS = array("q")


def runs(list messages, partition_of, offset_of, value_of, error_of):
    """Return the messages that stand together and are of one partition, and the numbers of those that tell of an error.

    Parameters
    ----------
    messages : list
        In the order of the client: by partition, the offsets rise.
    partition_of, offset_of, value_of, error_of
        What a message is asked by; without an error it answers None.

    Returns
    -------
    runs : list of (first, partition, offsets, values)
        With the number of the first message, ``array('q')`` and a list.
    wrong : list of int

    Examples
    --------
    >>> from operator import itemgetter
    >>> a, b, told = (0, 7, b"x", None), (0, 9, None, None), (1, 4, b"late", "gone")
    >>> runs([a, b, told, a], *map(itemgetter, range(4)))
    ([(0, 0, array('q', [7, 9]), [b'x', None]), (3, 0, array('q', [7]), [b'x'])], [2])
    """
    cdef Py_ssize_t i, first = 0, n = len(messages)
    cdef int64_t partition, current = -1
    cdef int64_t* offsets
    cdef Array held = clone(OFFSETS, n, False)
    cdef list values = [], found = [], wrong = []
    offsets = <int64_t*>held.data.as_longlongs
    for i in range(n):
        message = messages[i]
        if error_of(message) is not None:
            wrong.append(i)
            partition = -1
        else:
            partition = partition_of(message)
        if partition != current:
            if values:
                found.append((first, current, held[:len(values)], values))
            first, current, values = i, partition, []
        if partition >= 0:
            offsets[i - first] = offset_of(message)
            values.append(value_of(message))
    if values:
        resize(held, len(values))
        found.append((first, current, held, values))
    return found, wrong


def bytes_of(list values):
    """Return how many bytes the values take: those that are there.

    Examples
    --------
    >>> bytes_of([b"ab", None, b"c"])
    3
    """
    cdef Py_ssize_t total = 0
    for value in values:
        if PyBytes_CheckExact(value):
            total += PyBytes_GET_SIZE(value)
    return total


def within(list values, Py_ssize_t limit):
    """Return whether all are bytes, none longer than `limit`.

    Examples
    --------
    >>> within([b"ab", b""], 2), within([b"ab"], 1), within([None], 1)
    (True, False, False)
    """
    for value in values:
        if not PyBytes_CheckExact(value) or PyBytes_GET_SIZE(value) > limit:
            return False
    return True
