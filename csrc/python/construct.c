/* construct.c: see construct.h. */
#include "python/construct.h"

#include "python/object.h"
#include "python/sets.h"
#include "python/symbol.h"

/* Makes a leaf of 0, which __init__ changes, so that subclasses may define their own. */
PyObject *pgr__operand_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    if (type == pgr__layer.value_type)
        return pgr__new_leaf(PGR_OP_LEAF, NAN); /* until __init__ gives a number */
    const pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__raise(status);
    object *const o = (object *)type->tp_alloc(type, 0); /* may run code */
    if (o == NULL)
        return NULL;
    pgr_status again = ready(1);
    if (again == PGR_OK)
        again = pgr__make_slot(pgr__layer.tape);
    if (again != PGR_OK) {
        Py_DECREF(o);
        return pgr__raise(again);
    }
    o->slot = tape_take_slot(pgr__layer.tape, tape_append(pgr__layer.tape, PGR_OP_LEAF, NAN, 0, 0));
    pgr__layer.tape->slots[o->slot].owner = o;
    return (PyObject *)o;
}

/* The arguments of __init__ and Value(), converted. */
typedef struct {
    double data;
    PyObject *children;   /* owned, a tuple; NULL: a leaf */
    PyObject *op, *label; /* owned; NULL: not given */
    PyObject *grads;      /* owned, a tuple of floats, one for each child; NULL: not given */
} arguments;

static void drop(arguments *a)
{
    Py_XDECREF(a->children);
    Py_XDECREF(a->op);
    Py_XDECREF(a->label);
    Py_XDECREF(a->grads);
}

/* The local gradients as a tuple of floats, one for each child. */
static bool take_grads(arguments *out)
{
    PyObject *const given = PySequence_Tuple(out->grads);
    const Py_ssize_t n = given == NULL ? -1 : PyTuple_GET_SIZE(given);
    const Py_ssize_t children = out->children == NULL ? 0 : PyTuple_GET_SIZE(out->children);
    PyObject *floats = n < 0 ? NULL : PyTuple_New(n);
    for (Py_ssize_t i = 0; floats != NULL && i < n; i++) {
        double number;
        const bool is_number = pgr__to_number("local_grads", PyTuple_GET_ITEM(given, i), &number);
        PyObject *const value = is_number ? PyFloat_FromDouble(number) : NULL;
        if (value != NULL)
            PyTuple_SET_ITEM(floats, i, value);
        else
            Py_CLEAR(floats);
    }
    Py_XDECREF(given);
    if (floats != NULL && n != children) {
        PyErr_Format(PyExc_ValueError, "Value: %zd operands and %zd local gradients; their numbers must be equal",
                     children, n);
        Py_CLEAR(floats);
    }
    Py_SETREF(out->grads, floats);
    return floats != NULL;
}

/* Takes `children`, NULL if not given, as a tuple of Values, since a list may change. */
static bool take_children(PyObject *children, arguments *out)
{
    if (out->op != NULL && out->grads == NULL && (PyTuple_Check(out->op) || PyList_Check(out->op))) {
        out->grads = out->op; /* Value(data, children, local_grads) */
        out->op = NULL;
    }
    if ((out->op != NULL && !PyUnicode_Check(out->op)) || (out->label != NULL && !PyUnicode_Check(out->label))) {
        const bool is_op = out->op != NULL && !PyUnicode_Check(out->op);
        pgr__reject(is_op ? "_op" : "label", is_op ? out->op : out->label);
        return false;
    }
    PyObject *const tuple = children == NULL             ? PyTuple_New(0)
                            : PyUnicode_Check(children) ? NULL
                                                        : PySequence_Tuple(children);
    if (tuple == NULL) {
        if (children != NULL && !PyErr_Occurred())
            pgr__reject("_children", children);
        else if (children != NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            pgr__reject("_children", children);
        }
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        if (!IS_OPERAND(PyTuple_GET_ITEM(tuple, i))) {
            pgr__reject("_children", PyTuple_GET_ITEM(tuple, i));
            Py_DECREF(tuple);
            return false;
        }
    if (PyTuple_GET_SIZE(tuple) > 0 || (out->op != NULL && PyUnicode_GET_LENGTH(out->op) > 0))
        out->children = tuple;
    else
        Py_DECREF(tuple);
    return true;
}

/* False, with an exception and nothing to drop, if an argument is not acceptable. */
static bool parse(PyObject *args, PyObject *keywords, arguments *out)
{
    static char *names[] = {"data", "_children", "_op", "label", "children", "local_grads", NULL};
    PyObject *data, *children = NULL, *same = NULL;
    *out = (arguments){0.0, NULL, NULL, NULL, NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|OOO$OO:Value", names, &data, &children, &out->op, &out->label,
                                     &same, &out->grads))
        return false;
    if (children == NULL)
        children = same;
    Py_XINCREF(children); /* converting the number may run any code */
    Py_XINCREF(out->op);
    Py_XINCREF(out->label);
    Py_XINCREF(out->grads);
    const bool ok = pgr__to_number("Value", data, &out->data) && take_children(children, out) &&
                    (out->grads == NULL || take_grads(out));
    Py_XDECREF(children);
    if (!ok)
        drop(out);
    return ok;
}

/* Records a custom node; 0 with an exception. */
static pgr_id record_custom(const arguments *a)
{
    const size_t n = (size_t)PyTuple_GET_SIZE(a->children);
    pgr_id *const ids = PyMem_Malloc((n + 1) * sizeof *ids);
    pgr_id id = 0;
    pgr_status status = ids == NULL ? PGR_ERR_NOMEM : pgr__make_ready(n + 1);
    for (size_t i = 0; status == PGR_OK && i < n; i++)
        if ((ids[i] = id_of(PyTuple_GET_ITEM(a->children, (Py_ssize_t)i))) == 0)
            status = PGR_ERR_HANDLE;
    if (status == PGR_OK)
        status = pgr_custom(pgr__layer.tape, a->data, n, ids, &id);
    PyMem_Free(ids);
    if (status != PGR_OK)
        pgr__fail(status, PGR_OP_CUSTOM, a->data, 0.0);
    return id;
}

static bool set_names(PyObject *self, const arguments *a)
{
    if (a->children != NULL && a->op != NULL && PyUnicode_GET_LENGTH(a->op) > 0 && pgr__set_op(self, a->op, NULL) < 0)
        return false;
    if (a->children != NULL && a->grads != NULL) {
        PyObject *const dict = own_dict(self);
        if (dict == NULL || PyDict_SetItem(dict, pgr__names._local_grads, a->grads) < 0)
            return false;
    }
    if (a->label == NULL || PyUnicode_GET_LENGTH(a->label) == 0)
        return true;
    return PyObject_SetAttr(self, pgr__names.label, a->label) == 0;
}

/* Before an object gets a new node: drops the library's attributes and keeps the program's. */
static void forget_past(object *o)
{
    PyObject *const gone[] = {pgr__names._op, pgr__names._backward, pgr__names._local_grads, pgr__names._pygrad_step};
    for (size_t i = 0; o->dict != NULL && i < sizeof gone / sizeof *gone; i++)
        if (PyDict_Contains(o->dict, gone[i]) > 0)
            PyDict_DelItem(o->dict, gone[i]);
    if (o->prev != NULL)
        pgr__drop_prev(pgr__take_prev(o));
    PyErr_Clear();
}

/* Replaces the object's node, the tape's last, so nobody has used it. */
static pgr_status take_new_node(object *o, const arguments *a)
{
    pgr_tape *const tape = pgr__layer.tape;
    const pgr_id id = record_custom(a);
    if (id == 0)
        return RAISED;
    pgr_node *const before = node_of((PyObject *)o);
    before->slot = 0;
    before->flags &= (uint8_t)~TAPE_HELD;
    tape->slots[o->slot].id = id;
    tape_name(tape, id, o->slot);
    return PGR_OK;
}

/* Gives the object's node other operands. Nodes made from it stay made from it. */
static pgr_status change_node(object *o, const arguments *a)
{
    const size_t n = a->children == NULL ? 0 : (size_t)PyTuple_GET_SIZE(a->children);
    pgr_handle *const handles = PyMem_Malloc((n + 1) * sizeof *handles);
    for (size_t i = 0; handles != NULL && i < n; i++)
        handles[i] = handle_of(PyTuple_GET_ITEM(a->children, (Py_ssize_t)i));
    pgr_status status = PGR_ERR_NOMEM;
    if (handles != NULL)
        status = pgr_h_set_operands(pgr__layer.tape, handle_of((PyObject *)o), n, handles);
    PyMem_Free(handles);
    if (status == PGR_OK && node_of((PyObject *)o) != pgr__layer.tape->nodes) {
        node_of((PyObject *)o)->data = a->data;
        if (a->children == NULL)
            node_of((PyObject *)o)->op = PGR_OP_LEAF;
    }
    return status;
}

/* For subclasses and explicit calls, which change the node; Value() uses pgr__value_vectorcall. */
int pgr__operand_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    object *const o = (object *)self;
    arguments a;
    if (!parse(args, keywords, &a))
        return -1;
    if (o->dict != NULL || o->prev != NULL)
        forget_past(o);
    pgr_status status = PGR_OK;
    if (live_node(self) == NULL)
        status = RAISED;
    else if (a.children == NULL && node_of(self)->op == PGR_OP_LEAF)
        node_of(self)->data = a.data;
    else if (node_of(self)->op == PGR_OP_LEAF && id_of(self) + 1 == pgr__layer.tape->size)
        status = take_new_node(o, &a);
    else
        status = change_node(o, &a);
    if (status == PGR_OK && live_node(self) != NULL)
        node_of(self)->grad = 0.0;
    const bool ok = status == PGR_OK && set_names(self, &a);
    drop(&a);
    if (status != PGR_OK && status != RAISED)
        pgr__fail(status, PGR_OP_CUSTOM, 0.0, 0.0);
    return ok ? 0 : -1;
}

static PyObject *new_value(PyObject *args, PyObject *keywords)
{
    arguments a;
    if (!parse(args, keywords, &a))
        return NULL;
    PyObject *value = NULL;
    if (a.children == NULL) {
        value = pgr__new_leaf(PGR_OP_LEAF, a.data);
    } else {
        const pgr_id id = record_custom(&a);
        if (id != 0 && (value = wrap_new(id, 0)) == NULL)
            tape_pop(pgr__layer.tape); /* its pairs */
    }
    if (value != NULL && !set_names(value, &a))
        Py_CLEAR(value);
    drop(&a);
    return value;
}

/* Value(...) without type.__call__, unless the program has replaced the class's __init__. */
PyObject *pgr__value_vectorcall(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names)
{
    const PyTypeObject *const type = (PyTypeObject *)callable;
    const bool is_plain = type->tp_init == pgr__operand_init && type->tp_new == pgr__operand_new;
    const Py_ssize_t n = PyVectorcall_NARGS(flags);
    if (n == 1 && names == NULL && is_plain) {
        double number;
        return pgr__to_number("Value", args[0], &number) ? pgr__new_leaf(PGR_OP_LEAF, number) : NULL;
    }
    PyObject *const tuple = PyTuple_New(n);
    PyObject *const keywords = names == NULL ? NULL : PyDict_New();
    PyObject *result = NULL;
    if (tuple == NULL || (names != NULL && keywords == NULL))
        goto done;
    for (Py_ssize_t i = 0; i < n; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
            goto done;
    result = is_plain ? new_value(tuple, keywords) : PyType_Type.tp_call(callable, tuple, keywords);
done:
    Py_XDECREF(tuple);
    Py_XDECREF(keywords);
    return result;
}
