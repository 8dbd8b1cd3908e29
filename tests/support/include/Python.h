/* The names of the stable ABI (PEP 384) that the modules of the tests use, for where
   CPython's own headers are not installed. */
#ifndef Py_PYTHON_H
#define Py_PYTHON_H

#include <stddef.h>

#define METH_NOARGS 4
#define PyMODINIT_FUNC __attribute__((visibility("default"))) PyObject *
#define PyModuleDef_HEAD_INIT {1, NULL, NULL, 0, NULL}
#define PyModule_Create(definition) PyModule_Create2(definition, 1013)

typedef struct _object PyObject;

typedef struct {
    const char *name;
    PyObject *(*function)(PyObject *, PyObject *);
    int flags;
    const char *doc;
} PyMethodDef;

typedef struct PyModuleDef {
    struct {
        ptrdiff_t references;
        void *type;
        PyObject *(*init)(void);
        ptrdiff_t index;
        PyObject *copy;
    } base;
    const char *name;
    const char *doc;
    ptrdiff_t size;
    PyMethodDef *methods;
    void *slots;
    void *traverse;
    void *clear;
    void *free;
} PyModuleDef;

extern PyObject *PyExc_ImportError;

void PyErr_SetString(PyObject *, const char *);
PyObject *PyLong_FromLong(long);
PyObject *PyModule_Create2(PyModuleDef *, int);

#endif
