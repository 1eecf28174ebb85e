/* The native twin: the straight line through a span, in C. Python is the specification, and does all the rest.

   Nothing here is a type of its own. The classes and the decorated functions are the Python ones, and C reads and writes
   their slots and cells, in the order of the Python code. Whatever is not the usual case (an error, a naming function, the
   first span of a thread, a subclass that is different) is given to the Python function whole, before anything was
   changed. So whoever changes `ferret/span.py` or `ferret/decorate.py` looks here too, and tests/native says where the two
   differ.

   What the Python code finds under a name in its module could be replaced: by a test's clock, or at the end of the
   interpreter, when names become None. The modules' dictionaries are watched, and while one of the names means something
   else, everything is left to Python.

   It relies on the GIL: between two calls into Python nothing else runs, no thread and no signal handler. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <string.h>

#ifdef Py_GIL_DISABLED
#error "not for the free-threaded build: ferret works there without this module"
#endif

enum { DETAILS, RECORDER, TAGS, TOKEN, END_NS, NAME, PARENT_ID, SPAN_ID, START_NS, SPAN_SLOTS };
enum { APPEND, CLAIM, CURRENT, DRAW, GAUGE, QUEUE, LANE_SLOTS };
enum { NEXT_ID, IDS_SLOTS };

/* The slots of a Python class, and which other classes have them unchanged. A class is known by its version tag, which is
   never given twice, and which a class loses whenever it or a base of it is changed. */
typedef struct {
    const char *names[SPAN_SLOTS + 2];
    PyObject *members[SPAN_SLOTS + 1];
    Py_ssize_t at[SPAN_SLOTS + 1];
    unsigned int vetted[8], next;
} Layout;

static Layout spans = {.names = {"_details", "_recorder", "_tags", "_token", "end_ns", "name", "parent_id", "span_id",
                                 "start_ns", "__init__"}};
static Layout lanes = {.names = {"append", "claim", "current", "draw", "gauge", "queue"}};
static Layout gauges = {.names = {"alarm"}};
static Layout counters = {.names = {"next_id"}};

#define SLOT(layout, object, which) (*(PyObject **)((char *)(object) + (layout).at[which]))

/* What Python finds under a global name. The first of a name is what C uses, too; later ones are the same. */
enum { IDS, LOCAL, RUNNING_LOOP, TASK_NAME, ENCODE_TAGS, CLOCK, ENCODE, MOST_BYTES, THREAD_INDEX, HAND_OVER_FAILED, CURRENT_TASK,
       KNOWN };
static const char *const known_names[KNOWN] = {
    "ids", "local", "running_loop", "task_name", "encode_tags", "perf_counter_ns", "_encode", "MAX_TAGS_BYTES", "thread_index",
    "_hand_over_failed", "current_task"};
static PyObject *known[KNOWN];
enum { MOST_WATCHED = KNOWN * 5 };
static struct { PyObject *globals, *name, *value; } watched[MOST_WATCHED];
static int watched_count, watcher = -1;
static bool look_again;

/* in _queue.c */
extern PyTypeObject FerretQueue;
extern PyObject *untrack_list(PyObject *module, PyObject *list), *turn_records(PyObject *module, PyObject *args);

static PyObject *zero, *str_alarm, *str_get_name, *str_index, *str_name, *str_rouse, *str_self, *str_suppressed;
static PyObject *python_enter, *python_exit, *python_wrapper_code;
static vectorcallfunc python_vectorcall;
static Py_ssize_t most_bytes;

static int
note_change(PyDict_WatchEvent event, PyObject *globals, PyObject *key, PyObject *value)
{
    look_again = true;
    return 0;
}

static bool
names_mean_the_same(void)
{
    for (int i = 0; i < watched_count; i++) {
        if (PyDict_GetItemWithError(watched[i].globals, watched[i].name) != watched[i].value) {
            PyErr_Clear();
            return false;
        }
    }
    look_again = false;
    return true;
}

#define AS_WRITTEN() (!look_again || names_mean_the_same())

/* Remember what the names mean in a module, and be told when that changes. */
static int
watch(PyObject *globals)
{
    for (int i = 0; i < KNOWN; i++) {
        PyObject *name = PyUnicode_InternFromString(known_names[i]);
        PyObject *value = name == NULL ? NULL : PyDict_GetItemWithError(globals, name);
        if (value == NULL) {
            Py_XDECREF(name);
            if (PyErr_Occurred())
                return -1;
            continue;
        }
        if (watched_count == MOST_WATCHED) {
            Py_DECREF(name);
            PyErr_SetString(PyExc_RuntimeError, "too many modules are watched");
            return -1;
        }
        if (known[i] == NULL)
            known[i] = Py_NewRef(value);
        watched[watched_count].globals = Py_NewRef(globals);
        watched[watched_count].name = name;
        watched[watched_count++].value = Py_NewRef(value);
    }
    look_again = true;
    return PyDict_Watch(watcher, globals);
}

static int
learn(Layout *layout, PyTypeObject *type)
{
    for (int i = 0; layout->names[i] != NULL; i++) {
        PyObject *member = PyObject_GetAttrString((PyObject *)type, layout->names[i]);
        if (member == NULL)
            return -1;
        layout->members[i] = member;
        if (i == SPAN_SLOTS) /* its __init__ */
            break;
        if (!Py_IS_TYPE(member, &PyMemberDescr_Type)) {
            PyErr_Format(PyExc_TypeError, "%s.%s is no slot", type->tp_name, layout->names[i]);
            return -1;
        }
        layout->at[i] = ((PyMemberDescrObject *)member)->d_member->offset;
    }
    return 0;
}

/* Whether the slots mean in this class what they mean where they come from. */
static bool
vet(Layout *layout, PyTypeObject *type)
{
    if (type->tp_getattro != PyObject_GenericGetAttr || type->tp_setattro != PyObject_GenericSetAttr
        || (layout == &spans && type->tp_new != PyBaseObject_Type.tp_new))
        return false;
    for (int i = 0; layout->names[i] != NULL; i++) {
        PyObject *found = PyObject_GetAttrString((PyObject *)type, layout->names[i]);
        Py_XDECREF(found);
        if (found == NULL || found != layout->members[i]) {
            PyErr_Clear();
            return false;
        }
    }
    if (!PyUnstable_Type_AssignVersionTag(type))
        return false;
    layout->vetted[layout->next++ % 8] = type->tp_version_tag;
    return true;
}

static inline bool
has(Layout *layout, PyTypeObject *type)
{
    unsigned int tag = type->tp_version_tag;
    if (tag != 0)
        for (int i = 0; i < 8; i++)
            if (layout->vetted[i] == tag)
                return true;
    return vet(layout, type);
}

static inline void
set(PyObject **slot, PyObject *value)
{
    PyObject *old = *slot;
    *slot = value;
    Py_XDECREF(old);
}

/* The clock of `time.perf_counter_ns`. */
static inline PyObject *
now(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyTime_t ns;
    if (PyTime_PerfCounterRaw(&ns) < 0) {
        PyErr_SetString(PyExc_RuntimeError, "the clock cannot be read");
        return NULL;
    }
    return PyLong_FromLongLong(ns);
#else
    return PyLong_FromLongLong(_PyTime_GetPerfCounter());
#endif
}

/* Call the `__next__` of an iterator, which is kept: the call of a bound `__next__` costs more than what it does.
   Without an exception where there is no next one. */
typedef struct { PyObject *bound, *iterator; } Source;
static Source ids_source, draw_source;

static PyObject *
next_of(Source *source, PyObject *bound)
{
    if (source->bound != bound) {
        PyObject *iterator = NULL;
        Py_INCREF(bound);
        PyObject *name = PyObject_GetAttr(bound, str_name);
        if (name != NULL && PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__next__") == 0)
            iterator = PyObject_GetAttr(bound, str_self);
        Py_XDECREF(name);
        PyErr_Clear();
        if (iterator != NULL && !PyIter_Check(iterator))
            Py_CLEAR(iterator);
        set(&source->iterator, iterator);
        set(&source->bound, bound);
    }
    PyObject *found, *iterator = source->iterator;
    if (iterator != NULL) {
        Py_INCREF(iterator);
        found = Py_TYPE(iterator)->tp_iternext(iterator);
        Py_DECREF(iterator);
    }
    else
        found = PyObject_CallNoArgs(bound);
    if (found == NULL && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_StopIteration))
        PyErr_Clear();
    return found;
}

static PyObject *
new_id(void)
{
    PyObject *next_id = SLOT(counters, known[IDS], NEXT_ID);
    PyObject *found = next_id == NULL ? NULL : next_of(&ids_source, next_id);
    if (found == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "there are no span ids");
    return found;
}

/* `local.index`, and what was found there, by the thread's number, which is never given twice. Whoever takes an index away
   or gives another says so, by `forget_threads`, and then everybody looks again. (Another kind of local, such as gevent's, is asked always.) */
static struct { uint64_t thread; Py_ssize_t index; } indices[16];
static bool local_is_usual;

static PyObject *
local_index(void)
{
    uint64_t thread = PyThreadState_GetID(PyThreadState_Get());
    if (indices[thread % 16].thread == thread)
        return PyLong_FromSsize_t(indices[thread % 16].index);
    PyObject *found = PyObject_GetAttr(known[LOCAL], str_index);
    if (found != NULL && local_is_usual && PyLong_CheckExact(found)) {
        indices[thread % 16].index = PyLong_AsSsize_t(found);
        indices[thread % 16].thread = thread;
    }
    return found;
}

static PyObject *
forget_threads(PyObject *module, PyObject *unused)
{
    memset(indices, 0, sizeof indices);
    Py_RETURN_NONE;
}

/* A text that is JSON as it stands, in quotes; NULL where it is not, or where there is no room. */
static char *
write_text(char *at, char *end, PyObject *text)
{
    if (!PyUnicode_CheckExact(text) || !PyUnicode_IS_COMPACT_ASCII(text) || PyUnicode_GET_LENGTH(text) > end - at - 4)
        return NULL;
    const unsigned char *from = PyUnicode_1BYTE_DATA(text), *stop = from + PyUnicode_GET_LENGTH(text);
    *at++ = '"';
    while (from < stop) {
        if (*from < ' ' || *from == '"' || *from == '\\')
            return NULL;
        *at++ = *from++;
    }
    *at++ = '"';
    return at;
}

static char *
write_value(char *at, char *end, PyObject *value)
{
    if (!PyLong_CheckExact(value) || !PyUnstable_Long_IsCompact((PyLongObject *)value))
        return write_text(at, end, value);
    Py_ssize_t number = PyUnstable_Long_CompactValue((PyLongObject *)value);
    char digits[24], *first = digits + sizeof digits;
    size_t rest = number < 0 ? -(size_t)number : (size_t)number;
    do
        *--first = '0' + rest % 10;
    while (rest /= 10);
    if (number < 0)
        *--first = '-';
    size_t length = digits + sizeof digits - first;
    return (size_t)(end - at) < length + 3 ? NULL : (char *)memcpy(at, first, length) + length;
}

/* The commonest tags, which are few, short and plain; NULL for others. A call of msgspec takes as long as all of this thrice. */
static PyObject *
short_json(PyObject *tags)
{
    char text[256], *at = text, *end = text + sizeof text;
    PyObject *key, *value;
    for (Py_ssize_t i = 0; PyDict_Next(tags, &i, &key, &value); *at++ = ',')
        if ((at = write_text(at == text ? at + 1 : at, end, key)) == NULL || (*at++ = ':', at = write_value(at, end, value)) == NULL)
            return NULL;
    text[0] = '{';
    at[-1] = '}';
    return PyBytes_FromStringAndSize(text, at - text);
}

static PyObject *
encode_tags(PyObject *tags)
{
    if (tags == Py_None)
        return Py_NewRef(Py_None);
    if (!PyDict_CheckExact(tags))
        return PyObject_CallOneArg(known[ENCODE_TAGS], tags);
    if (PyDict_GET_SIZE(tags) == 0)
        return Py_NewRef(Py_None);
    PyObject *data = short_json(tags);
    if (data != NULL || PyErr_Occurred())
        return data;
    data = PyObject_CallOneArg(known[ENCODE], tags);
    if (data == NULL) {
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit))
            return NULL;
        PyErr_Clear();
        return PyObject_CallOneArg(known[ENCODE_TAGS], tags);
    }
    const char *at = PyBytes_AS_STRING(data), *end = at + PyBytes_GET_SIZE(data);
    bool usual = end - at <= most_bytes;
    while (usual && end - at >= 4 && (at = memchr(at, 'n', end - at - 3)) != NULL)
        usual = memcmp(at++, "null", 4) != 0;
    if (!usual)
        Py_SETREF(data, PyObject_CallOneArg(known[ENCODE_TAGS], tags));
    return data;
}

static PyObject *
task_name(void)
{
    PyObject *loop = PyObject_CallNoArgs(known[RUNNING_LOOP]);
    if (loop == NULL || loop == Py_None)
        return loop;
    PyObject *name, *task = PyObject_CallOneArg(known[CURRENT_TASK], loop);
    if (task == NULL || task == Py_None)
        name = task;
    else {
        name = PyObject_CallMethodNoArgs(task, str_get_name);
        Py_DECREF(task);
        if (name == NULL ? PyErr_ExceptionMatches(PyExc_AttributeError) : !PyUnicode_CheckExact(name)) {
            PyErr_Clear(); /* a task factory may make other things */
            Py_XDECREF(name);
            name = PyObject_CallOneArg(known[TASK_NAME], loop);
        }
    }
    Py_DECREF(loop);
    return name;
}

/* `gauge.rouse()` if the queue is as long as the alarm. */
static int
look_at_gauge(PyObject *recorder)
{
    PyObject *gauge = SLOT(lanes, recorder, GAUGE), *queue = SLOT(lanes, recorder, QUEUE);
    if (gauge == NULL || queue == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the recorder has no queue");
        return -1;
    }
    Py_INCREF(gauge);
    Py_INCREF(queue);
    Py_ssize_t length = PyObject_Size(queue);
    Py_DECREF(queue);
    PyObject *alarm = NULL;
    if (length >= 0 && has(&gauges, Py_TYPE(gauge)))
        alarm = Py_XNewRef(SLOT(gauges, gauge, 0));
    if (length >= 0 && alarm == NULL)
        alarm = PyObject_GetAttr(gauge, str_alarm);
    int due = -1;
    if (alarm != NULL) {
        Py_ssize_t limit = PyLong_CheckExact(alarm) ? PyLong_AsSsize_t(alarm) : -1;
        if (limit >= 0)
            due = length >= limit;
        else {
            PyErr_Clear();
            PyObject *number = PyLong_FromSsize_t(length);
            if (number != NULL)
                due = PyObject_RichCompareBool(number, alarm, Py_GE);
            Py_XDECREF(number);
        }
        Py_DECREF(alarm);
    }
    if (due > 0) {
        PyObject *done = PyObject_CallMethodNoArgs(gauge, str_rouse);
        Py_XDECREF(done);
        due = done == NULL ? -1 : 0;
    }
    Py_DECREF(gauge);
    return due;
}

/* Count a span, then append it. No thread and no signal handler comes between the two, unless there is more to claim. */
static int
count_and_append(PyObject *recorder, PyObject *record)
{
    PyObject *draw = SLOT(lanes, recorder, DRAW), *claim = SLOT(lanes, recorder, CLAIM);
    PyObject *append = SLOT(lanes, recorder, APPEND), *done;
    if (draw == NULL || claim == NULL || append == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the recorder has nothing that takes a record");
        return -1;
    }
    Py_INCREF(claim);
    Py_INCREF(append);
    done = next_of(&draw_source, draw);
    if (done == NULL && !PyErr_Occurred())
        done = PyObject_CallNoArgs(claim);
    if (done != NULL)
        Py_SETREF(done, PyObject_CallOneArg(append, record));
    Py_DECREF(append);
    Py_DECREF(claim);
    Py_XDECREF(done);
    return done == NULL ? -1 : look_at_gauge(recorder);
}

/* Make the record and hand it over: the second half of a span that ended well. Steals nothing. */
static int
hand_over(PyObject *recorder, PyObject *span_id, PyObject *parent_id, PyObject *name, PyObject *start_ns, PyObject *end_ns,
          PyObject *thread, PyObject *tags)
{
    PyObject *task = task_name();
    if (task == NULL)
        return -1;
    PyObject *data = encode_tags(tags);
    PyObject *record = data == NULL ? NULL : PyTuple_New(11);
    if (record == NULL) {
        Py_DECREF(task);
        Py_XDECREF(data);
        return -1;
    }
    PyObject *items[] = {span_id, parent_id, name, start_ns, end_ns, thread};
    bool atoms = !PyObject_IS_GC(task);
    for (int i = 0; i < 6; i++) {
        atoms &= !PyObject_IS_GC(items[i]);
        PyTuple_SET_ITEM(record, i, Py_NewRef(items[i]));
    }
    PyTuple_SET_ITEM(record, 6, task);
    PyTuple_SET_ITEM(record, 7, data);
    PyTuple_SET_ITEM(record, 8, Py_NewRef(Py_None));
    PyTuple_SET_ITEM(record, 9, Py_NewRef(zero));
    PyTuple_SET_ITEM(record, 10, PyLong_FromLong(-1));
    if (atoms) /* as the collector would find out, sooner or later */
        PyObject_GC_UnTrack(record);
    int failed = count_and_append(recorder, record);
    Py_DECREF(record);
    return failed;
}

static PyObject *
in_python(PyObject *function, PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *all[8];
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    if (count > 7)
        return PyErr_Format(PyExc_TypeError, "%zd arguments are too many", count);
    all[0] = self;
    if (count)
        memcpy(all + 1, args, count * sizeof(PyObject *));
    return PyObject_Vectorcall(function, all, nargs + 1, kwnames);
}

/* `Span(recorder, name, tags)`, where the class is as it was made. */
static PyObject *
new_span(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    PyTypeObject *class = (PyTypeObject *)type;
    if (kwnames == NULL && (nargs == 2 || nargs == 3) && has(&spans, class)) {
        PyObject *self = class->tp_alloc(class, 0);
        if (self != NULL) {
            SLOT(spans, self, RECORDER) = Py_NewRef(args[0]);
            SLOT(spans, self, NAME) = Py_NewRef(args[1]);
            SLOT(spans, self, TAGS) = Py_NewRef(nargs == 3 ? args[2] : Py_None);
            SLOT(spans, self, DETAILS) = Py_NewRef(Py_None);
            SLOT(spans, self, END_NS) = Py_NewRef(zero);
        }
        return self;
    }
    PyObject *tuple = PyTuple_New(nargs), *keywords = kwnames == NULL ? NULL : PyDict_New(), *self = NULL;
    if (tuple != NULL && (kwnames == NULL || keywords != NULL)) {
        int failed = 0;
        for (Py_ssize_t i = 0; i < nargs; i++)
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
        for (Py_ssize_t i = 0; kwnames != NULL && !failed && i < PyTuple_GET_SIZE(kwnames); i++)
            failed = PyDict_SetItem(keywords, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]);
        if (!failed)
            self = PyType_Type.tp_call(type, tuple, keywords);
    }
    Py_XDECREF(tuple);
    Py_XDECREF(keywords);
    return self;
}

/* The recorder's ContextVar, a new reference; NULL where Python is to look for it. */
static inline PyObject *
current_of(PyObject *recorder)
{
    if (recorder == NULL)
        return NULL;
    Py_INCREF(recorder); /* a metaclass may be asked, in Python */
    PyObject *current = has(&lanes, Py_TYPE(recorder)) ? SLOT(lanes, recorder, CURRENT) : NULL;
    current = current != NULL && PyContextVar_CheckExact(current) ? Py_NewRef(current) : NULL;
    Py_DECREF(recorder);
    return current;
}

static PyObject *
span_enter(PyObject *self, PyObject *unused)
{
    PyObject *name, *current = NULL, *parent_id = NULL, *span_id, *token, *start_ns;
    if (!AS_WRITTEN() || !has(&spans, Py_TYPE(self)) || SLOT(spans, self, END_NS) != zero
        || (name = SLOT(spans, self, NAME)) == NULL || !PyUnicode_CheckExact(name)
        || (current = current_of(SLOT(spans, self, RECORDER))) == NULL || PyContextVar_Get(current, NULL, &parent_id) < 0
        || parent_id == NULL) {
        PyErr_Clear();
        Py_XDECREF(current);
        return PyObject_CallOneArg(python_enter, self);
    }
    set(&SLOT(spans, self, PARENT_ID), parent_id);
    if ((span_id = new_id()) != NULL) {
        set(&SLOT(spans, self, SPAN_ID), Py_NewRef(span_id));
        token = PyContextVar_Set(current, span_id);
        Py_DECREF(span_id);
        if (token != NULL) {
            set(&SLOT(spans, self, TOKEN), token);
            if ((start_ns = now()) != NULL) {
                set(&SLOT(spans, self, START_NS), start_ns);
                Py_DECREF(current);
                return Py_NewRef(self);
            }
        }
    }
    Py_DECREF(current);
    return NULL;
}

static PyObject *
span_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *recorder = NULL, *current = NULL, *token = NULL, *name = NULL, *thread = NULL, *span_id = NULL, *parent_id = NULL;
    PyObject *start_ns = NULL, *tags = NULL, *end_ns = now(), *result = NULL;
    if (end_ns == NULL)
        return NULL;
    /* All that is needed is held before anything is called that may run Python, which may do anything to the span. */
    if (!AS_WRITTEN() || kwnames != NULL || nargs != 3 || args[1] != Py_None || !has(&spans, Py_TYPE(self))
        || (recorder = Py_XNewRef(SLOT(spans, self, RECORDER))) == NULL || (current = current_of(recorder)) == NULL
        || (thread = local_index()) == NULL || SLOT(spans, self, DETAILS) != Py_None || SLOT(spans, self, END_NS) != zero
        || (token = Py_XNewRef(SLOT(spans, self, TOKEN))) == NULL || !PyContextToken_CheckExact(token)
        || (span_id = Py_XNewRef(SLOT(spans, self, SPAN_ID))) == NULL
        || (parent_id = Py_XNewRef(SLOT(spans, self, PARENT_ID))) == NULL
        || (name = Py_XNewRef(SLOT(spans, self, NAME))) == NULL || !PyUnicode_CheckExact(name)
        || (start_ns = Py_XNewRef(SLOT(spans, self, START_NS))) == NULL || (tags = Py_XNewRef(SLOT(spans, self, TAGS))) == NULL
        || PyContextVar_Reset(current, token) < 0) {
        PyErr_Clear();
        result = in_python(python_exit, self, args, nargs, kwnames);
    }
    else {
        set(&SLOT(spans, self, END_NS), Py_NewRef(end_ns));
        if (hand_over(recorder, span_id, parent_id, name, start_ns, end_ns, thread, tags) == 0)
            result = Py_NewRef(Py_None);
    }
    Py_XDECREF(recorder);
    Py_XDECREF(current);
    Py_XDECREF(thread);
    Py_XDECREF(token);
    Py_XDECREF(span_id);
    Py_XDECREF(parent_id);
    Py_XDECREF(name);
    Py_XDECREF(start_ns);
    Py_XDECREF(tags);
    Py_DECREF(end_ns);
    return result;
}

static PyMethodDef enter_method = {"__enter__", span_enter, METH_NOARGS, "__enter__($self)\n--\n\n"};
static PyMethodDef exit_method = {"__exit__", (PyCFunction)(void (*)(void))span_exit, METH_FASTCALL | METH_KEYWORDS,
                                  "__exit__($self, kind, error, traceback)\n--\n\n"};

/* Decorated calls. The wrapper is the Python function with its closure, and C is another way to call it: so it is pickled,
   bound, inspected and wrapped as ever. A call of Python from C needs some of C's stack, though, which a call of Python from
   Python does not. A function that is found to call itself so deep is given back to Python for good. */
enum { CELL_CURRENT, CELL_FUNC, CELL_NAME, CELL_RECORDER, CELLS };
static const char *const cell_names[CELLS] = {"current", "func", "name", "recorder"};
static const int most_deep = 25; /* 80 calls overflow a thread's stack of 64 KiB, 40 one of 32 */
static _Thread_local int depth;

/* Hand over a call that raised, as the Python code does, and leave its error raised. */
static void
hand_over_failed(PyObject *const *args)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *all[] = {args[0], args[1], args[2], args[3], args[4], error, args[5]};
    _PyErr_StackItem *handled = PyThreadState_Get()->exc_info; /* as in an `except` block */
    PyObject *before = handled->exc_value;
    handled->exc_value = Py_NewRef(error);
    PyObject *done = PyObject_Vectorcall(known[HAND_OVER_FAILED], all, 7, NULL);
    handled->exc_value = before;
    Py_DECREF(error); /* what was handled */
    if (done == NULL)
        Py_DECREF(error);
    else {
        Py_DECREF(done);
        PyErr_SetRaisedException(error);
    }
}

static PyObject *
thread_index(PyObject *recorder)
{
    PyObject *thread = local_index();
    if (thread != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return thread;
    PyErr_Clear();
    PyObject *suppressed = PyObject_GetAttr(recorder, str_suppressed);
    if (suppressed != NULL)
        thread = PyObject_CallOneArg(known[THREAD_INDEX], suppressed);
    Py_XDECREF(suppressed);
    return thread;
}

static PyObject *
decorated(PyObject *wrapper, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *closure = PyFunction_GET_CLOSURE(wrapper), *cells[CELLS], *parent_id = NULL;
    bool usual = AS_WRITTEN() && PyFunction_GET_CODE(wrapper) == python_wrapper_code && closure != NULL;
    for (int i = 0; usual && i < CELLS; i++)
        usual = (cells[i] = PyCell_GET(PyTuple_GET_ITEM(closure, i))) != NULL;
    int *deep = &depth;
    if (usual && *deep >= most_deep) {
        PyFunction_SetVectorcall((PyFunctionObject *)wrapper, python_vectorcall);
        usual = false;
    }
    if (!usual)
        return python_vectorcall(wrapper, args, nargsf, kwnames);
    PyObject *current = Py_NewRef(cells[CELL_CURRENT]), *func = Py_NewRef(cells[CELL_FUNC]);
    PyObject *name = Py_NewRef(cells[CELL_NAME]), *recorder = Py_NewRef(cells[CELL_RECORDER]);
    PyObject *span_id = NULL, *token = NULL, *start_ns = NULL, *end_ns = NULL, *thread = NULL, *result = NULL;
    if (!PyContextVar_CheckExact(current) || !has(&lanes, Py_TYPE(recorder)) || PyContextVar_Get(current, NULL, &parent_id) < 0
        || parent_id == NULL) {
        PyErr_Clear();
        result = python_vectorcall(wrapper, args, nargsf, kwnames);
    }
    else if ((span_id = new_id()) != NULL && (token = PyContextVar_Set(current, span_id)) != NULL && (start_ns = now()) != NULL) {
        ++*deep;
        result = PyObject_Vectorcall(func, args, nargsf, kwnames);
        --*deep;
        if (result == NULL)
            hand_over_failed((PyObject *[]){recorder, name, span_id, parent_id, start_ns, token});
        else if ((end_ns = now()) == NULL || PyContextVar_Reset(current, token) < 0
                 || (thread = thread_index(recorder)) == NULL
                 || (thread != Py_None
                     && hand_over(recorder, span_id, parent_id, name, start_ns, end_ns, thread, Py_None) < 0))
            Py_CLEAR(result);
    }
    Py_XDECREF(thread);
    Py_XDECREF(end_ns);
    Py_XDECREF(start_ns);
    Py_XDECREF(token);
    Py_XDECREF(span_id);
    Py_XDECREF(parent_id);
    Py_DECREF(recorder);
    Py_DECREF(name);
    Py_DECREF(func);
    Py_DECREF(current);
    return result;
}

/* -- setting up ---------------------------------------------------------------------------------- */

static PyObject *
hasten_class(PyObject *module, PyObject *class)
{
    if (!PyType_Check(class) || spans.members[0] == NULL || !has(&spans, (PyTypeObject *)class))
        return PyErr_Format(PyExc_TypeError, "%R is no class of spans", class);
    ((PyTypeObject *)class)->tp_vectorcall = new_span;
    return Py_NewRef(class);
}

static int
replace(PyTypeObject *type, PyMethodDef *method, PyObject **before)
{
    PyObject *descriptor = PyDescr_NewMethod(type, method);
    *before = descriptor == NULL ? NULL : PyObject_GetAttrString((PyObject *)type, method->ml_name);
    int failed = *before == NULL ? -1 : PyObject_SetAttrString((PyObject *)type, method->ml_name, descriptor);
    Py_XDECREF(descriptor);
    return failed;
}

static PyObject *
hasten_spans(PyObject *module, PyObject *args)
{
    PyObject *span, *lane, *gauge, *modules;
    if (!PyArg_ParseTuple(args, "O!O!O!O!", &PyType_Type, &span, &PyType_Type, &lane, &PyType_Type, &gauge, &PyTuple_Type,
                          &modules))
        return NULL;
    if (spans.members[0] != NULL) /* a second copy of ferret, which may not share the state of the first */
        return Py_NewRef(Py_False);
    if ((watcher = PyDict_AddWatcher(note_change)) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(modules); i++)
        if (watch(PyTuple_GET_ITEM(modules, i)) < 0)
            return NULL;
    for (int i = 0; i < KNOWN; i++)
        if (known[i] == NULL && i != HAND_OVER_FAILED)
            return PyErr_Format(PyExc_RuntimeError, "there is no %s", known_names[i]);
    local_is_usual = strcmp(Py_TYPE(known[LOCAL])->tp_name, "_thread._local") == 0;
    most_bytes = PyLong_AsSsize_t(known[MOST_BYTES]);
    /* The methods come last: until then nothing has changed, should anything be missing. */
    if (PyErr_Occurred() || learn(&counters, Py_TYPE(known[IDS])) < 0 || learn(&lanes, (PyTypeObject *)lane) < 0
        || learn(&gauges, (PyTypeObject *)gauge) < 0
        || learn(&spans, (PyTypeObject *)span) < 0 || replace((PyTypeObject *)span, &enter_method, &python_enter) < 0
        || replace((PyTypeObject *)span, &exit_method, &python_exit) < 0)
        return NULL;
    return Py_NewRef(Py_True);
}

static PyObject *
hasten_calls(PyObject *module, PyObject *globals)
{
    if (known[HAND_OVER_FAILED] != NULL) /* the module is loaded again, and is left to Python */
        Py_RETURN_NONE;
    if (spans.members[0] == NULL || !PyDict_CheckExact(globals) || watch(globals) < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "hasten_spans comes first, and then this, once, with a module's globals");
        return NULL;
    }
    if (known[HAND_OVER_FAILED] == NULL)
        return PyErr_Format(PyExc_RuntimeError, "there is no %s", known_names[HAND_OVER_FAILED]);
    Py_RETURN_NONE;
}

static PyObject *
hasten_function(PyObject *module, PyObject *wrapper)
{
    if (known[HAND_OVER_FAILED] == NULL || !PyFunction_Check(wrapper))
        return PyErr_Format(PyExc_TypeError, "%R is no wrapper", wrapper);
    PyFunctionObject *function = (PyFunctionObject *)wrapper;
    if (python_wrapper_code == NULL) {
        PyObject *free = PyObject_GetAttrString(PyFunction_GET_CODE(wrapper), "co_freevars");
        bool usual = free != NULL && PyTuple_GET_SIZE(free) == CELLS;
        for (int i = 0; usual && i < CELLS; i++)
            usual = PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(free, i), cell_names[i]) == 0;
        Py_XDECREF(free);
        if (!usual)
            return PyErr_Format(PyExc_TypeError, "%R does not have the cells that are expected", wrapper);
        python_vectorcall = function->vectorcall;
        python_wrapper_code = Py_NewRef(PyFunction_GET_CODE(wrapper));
    }
    if (PyFunction_GET_CODE(wrapper) == python_wrapper_code && depth < most_deep)
        PyFunction_SetVectorcall(function, decorated);
    return Py_NewRef(wrapper);
}

static PyObject *
native_encode_tags(PyObject *module, PyObject *tags)
{
    if (!AS_WRITTEN())
        return PyObject_CallOneArg(known[ENCODE_TAGS], tags);
    return encode_tags(tags);
}

static PyObject *
clock_ns(PyObject *module, PyObject *unused)
{
    return now();
}

static int
prepare(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "only for the main interpreter: its state is the process's");
        return -1;
    }
    if (PyModule_AddIntConstant(module, "EDITION", 3) < 0 /* as in twin.py */ || PyModule_AddType(module, &FerretQueue) < 0)
        return -1;
    zero = PyLong_FromLong(0);
    struct { PyObject **where; const char *text; } texts[] = {
        {&str_alarm, "alarm"}, {&str_get_name, "get_name"}, {&str_index, "index"},
        {&str_name, "__name__"}, {&str_rouse, "rouse"}, {&str_self, "__self__"}, {&str_suppressed, "suppressed"}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if ((*texts[i].where = PyUnicode_InternFromString(texts[i].text)) == NULL)
            return -1;
    return 0;
}

static PyMethodDef functions[] = {
    {"hasten_spans", hasten_spans, METH_VARARGS, "hasten_spans(span, lane, gauge, modules)\n--\n\n"
     "Have a class of spans entered and left in C; whether it is. False for all but the first."},
    {"hasten_class", hasten_class, METH_O, "hasten_class(cls)\n--\n\nHave spans of a class made in C, and return it."},
    {"hasten_calls", hasten_calls, METH_O, "hasten_calls(globals)\n--\n\nPrepare for `hasten_function`."},
    {"hasten_function", hasten_function, METH_O, "hasten_function(wrapper)\n--\n\nHave a wrapper called in C, and return it."},
    {"forget_threads", forget_threads, METH_NOARGS, "forget_threads()\n--\n\nSay that `local.index` went away."},
    {"untrack", untrack_list, METH_O, "untrack(list)\n--\n\nHave the garbage collector leave a list alone, and return it."},
    {"turn", turn_records, METH_VARARGS, "turn(records, first, columns)\n--\n\nSet columns[i][first + n] to records[n][i]."},
    {"encode_tags", native_encode_tags, METH_O, "encode_tags(tags)\n--\n\n`ferret.tags.encode_tags`."},
    {"clock_ns", clock_ns, METH_NOARGS, "clock_ns()\n--\n\nThe clock that C reads, for a test that it is Python's."},
    {NULL}};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
    {0}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "ferret._native", "The straight line through a span, in C.", 0, functions, slots};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
