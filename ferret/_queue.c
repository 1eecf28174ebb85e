/* Where the native twin keeps records: out of sight of Python's garbage collector.

   The queue is a `collections.deque` that the collector does not look into. What is queued are tuples of numbers, texts and
   bytes, which can be part of no cycle. The collector would visit each all the same, 40 ns a span: with a million in a deque, a
   full collection stopped the program for 40 ms. The lists that hold a batch are hidden from it for the same reason.

   As in a deque, each step is one call of C code that runs no Python: threads and signal handlers see it done or not done. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

enum { ITEMS = 510 }; /* a block has 4 KiB */

typedef struct block {
    struct block *before, *after;
    PyObject *items[ITEMS];
} Block;

typedef struct {
    PyObject_HEAD
    Block *first, *last, *spare; /* a spare one, so that a queue that comes and goes at a block's end does not allocate */
    Py_ssize_t head, tail;       /* the first item's place in the first block; behind the last item's in the last */
    Py_ssize_t length;
} Queue;

static int
add_block(Queue *queue)
{
    Block *block = queue->spare;
    queue->spare = NULL;
    if (block == NULL && (block = PyMem_Malloc(sizeof(Block))) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    block->before = queue->last;
    block->after = NULL;
    if (queue->last == NULL) {
        queue->first = block;
        queue->head = 0;
    } else
        queue->last->after = block;
    queue->last = block;
    queue->tail = 0;
    return 0;
}

static void
drop_block(Queue *queue, Block *block)
{
    if (block->before == NULL)
        queue->first = block->after;
    else
        block->before->after = block->after;
    if (block->after == NULL)
        queue->last = block->before;
    else
        block->after->before = block->before;
    queue->head = block->before == NULL ? 0 : queue->head;
    queue->tail = block->after == NULL ? ITEMS : queue->tail;
    PyMem_Free(queue->spare);
    queue->spare = block;
}

static PyObject *
append(PyObject *self, PyObject *item)
{
    Queue *queue = (Queue *)self;
    if ((queue->last == NULL || queue->tail == ITEMS) && add_block(queue) < 0)
        return NULL;
    queue->last->items[queue->tail++] = Py_NewRef(item);
    queue->length++;
    Py_RETURN_NONE;
}

static PyObject *
none_to_pop(void)
{
    PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    return NULL;
}

static PyObject *
pop(PyObject *self, PyObject *unused)
{
    Queue *queue = (Queue *)self;
    if (queue->length == 0)
        return none_to_pop();
    PyObject *item = queue->last->items[--queue->tail];
    if (--queue->length == 0 || queue->tail == 0)
        drop_block(queue, queue->last);
    return item;
}

static PyObject *
popleft(PyObject *self, PyObject *unused)
{
    Queue *queue = (Queue *)self;
    if (queue->length == 0)
        return none_to_pop();
    PyObject *item = queue->first->items[queue->head++];
    if (--queue->length == 0 || queue->head == ITEMS)
        drop_block(queue, queue->first);
    return item;
}

static PyObject *
clear(PyObject *self, PyObject *unused)
{
    while (((Queue *)self)->length > 0)
        Py_DECREF(pop(self, NULL));
    Py_RETURN_NONE;
}

static Py_ssize_t
length(PyObject *self)
{
    return ((Queue *)self)->length;
}

/* queue[index], for debuggers and tests: it walks from block to block. */
static PyObject *
item_at(PyObject *self, Py_ssize_t index)
{
    Queue *queue = (Queue *)self;
    if (index < 0 || index >= queue->length) {
        PyErr_SetString(PyExc_IndexError, "there is no such item in the queue");
        return NULL;
    }
    Block *block = queue->first;
    for (index += queue->head; index >= ITEMS; index -= ITEMS)
        block = block->after;
    return Py_NewRef(block->items[index]);
}

static void
dealloc(PyObject *self)
{
    Py_DECREF(clear(self, NULL));
    PyMem_Free(((Queue *)self)->spare);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef methods[] = {
    {"append", append, METH_O, "append(item)\n--\n\nAdd an item at the end."},
    {"pop", pop, METH_NOARGS, "pop()\n--\n\nTake the item that came last. IndexError if there is none."},
    {"popleft", popleft, METH_NOARGS, "popleft()\n--\n\nTake the item that came first. IndexError if there is none."},
    {"clear", clear, METH_NOARGS, "clear()\n--\n\nTake all items away."},
    {NULL}};

static PySequenceMethods sequence = {.sq_length = length, .sq_item = item_at};

PyTypeObject FerretQueue = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "ferret._native.Queue",
    .tp_doc = "Queue()\n--\n\nA queue of records, which the garbage collector does not look into.",
    .tp_basicsize = sizeof(Queue),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = dealloc,
    .tp_methods = methods,
    .tp_as_sequence = &sequence,
};

/* untrack(list): have the collector leave a list alone whose items are in no cycle. */
PyObject *
untrack_list(PyObject *module, PyObject *list)
{
    if (!PyList_CheckExact(list))
        return PyErr_Format(PyExc_TypeError, "%.100R is no list", list);
    PyObject_GC_UnTrack(list);
    return Py_NewRef(list);
}

/* turn(records, first, columns): set columns[i][first + n] to records[n][i]. */
PyObject *
turn_records(PyObject *module, PyObject *args)
{
    PyObject *records, *columns;
    Py_ssize_t first;
    if (!PyArg_ParseTuple(args, "O!nO!", &PyTuple_Type, &records, &first, &PyList_Type, &columns))
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(records), fields = PyList_GET_SIZE(columns);
    for (Py_ssize_t i = 0; i < fields; i++) {
        PyObject *column = PyList_GET_ITEM(columns, i);
        if (!PyList_CheckExact(column) || first < 0 || PyList_GET_SIZE(column) - first < count)
            return PyErr_Format(PyExc_ValueError, "column %zd has no room for the records", i);
    }
    for (Py_ssize_t n = 0; n < count; n++) {
        PyObject *record = PyTuple_GET_ITEM(records, n);
        if (!PyTuple_CheckExact(record) || PyTuple_GET_SIZE(record) != fields)
            return PyErr_Format(PyExc_ValueError, "record %zd is no tuple of %zd", n, fields);
        for (Py_ssize_t i = 0; i < fields; i++) {
            /* what was there before may run Python as it goes, which may shorten what was checked */
            PyObject *column = PyList_GetItem(columns, i);
            if (column == NULL || PyList_SetItem(column, first + n, Py_NewRef(PyTuple_GET_ITEM(record, i))) < 0)
                return NULL;
        }
    }
    Py_RETURN_NONE;
}
