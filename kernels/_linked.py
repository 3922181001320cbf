"""Functions as their compiled callers need them: without machine code, and without a way in from Python.

numba optimizes each function, with all that it calls, makes machine code of it and of what takes its
arguments from Python, and links it into its callers, where the first two happen again. For compiled
callers the form that is linked is enough. The rest was a third of the time that a simulation compiles.
"""

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.datamodel.models import OpaqueModel
from numba.core.registry import CPUDispatcher
from numba.core.types import Dispatcher
from numba.core.untyped_passes import TranslateByteCode
from numba.extending import register_model

_ENVIRONMENT = "_ZN08NumbaEnv"
"""Prefix of the variables that numba sets once a function has an address."""


class _LinkedLibrary(JITCodeLibrary):
    """A library that others link, without machine code of its own."""

    context: Any

    def _optimize_final_module(self) -> None:
        # All that it calls has been linked into the module by now, which is kept for the callers.
        # Machine code is made of another one, with nothing but the variables that numba sets.
        super()._optimize_final_module()  # type: ignore[no-untyped-call]
        linked = self._final_module
        for function in linked.functions:
            if not function.is_declaration and function.linkage.name == "external":
                function.linkage = "linkonce_odr"
        self._shared_module = linked
        codegen: Any = self._codegen
        bare = codegen._create_empty_module(self.name)
        for variable in linked.global_variables:
            if variable.name.startswith(_ENVIRONMENT):
                self.context.declare_env_global(bare, variable.name)
        library: Any = codegen.create_library(self.name)
        library.add_ir_module(bare)
        self._final_module = library._final_module

    def get_llvm_str(self) -> str:
        """The module that callers link."""
        return str(self._shared_module)

    def get_asm_str(self) -> str:
        """The machine code that would be made of it."""
        codegen: Any = self._codegen
        return str(codegen._tm.emit_assembly(self._shared_module))


@register_pass(mutates_CFG=False, analysis_only=True)  # type: ignore[no-untyped-call]
class _LinkOnly(FunctionPass):
    """Give the function a library without machine code."""

    _name = "link_only"

    def __init__(self) -> None:
        FunctionPass.__init__(self)  # type: ignore[no-untyped-call]

    def run_pass(self, state: Any) -> bool:
        new: Any = _LinkedLibrary
        library = new(state.targetctx.codegen(), state.func_id.func_qualname)
        library.context = state.targetctx
        library.enable_object_caching()
        state.library = library
        return False


class LinkedCompiler(CompilerBase):
    """numba's compiler, for a function that only compiled code calls."""

    def define_pipelines(self) -> list[Any]:
        """The passes of numba, with the choice of the library among the first."""
        builder: Any = DefaultPassBuilder
        passes = builder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_LinkOnly, TranslateByteCode)
        passes.finalize()
        return [passes]


_WITHOUT_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

LINKED: dict[str, Any] = {**_WITHOUT_WRAPPERS, "pipeline_class": LinkedCompiler}
"""Options of numba for a function that only compiled code calls; a call from Python ends the process."""


class _LinkedForm(Dispatcher):
    """What the name of a function stands for in compiled code."""

    @property
    def dispatcher(self) -> Any:
        """The form of the function for compiled callers."""
        function: Any = super().dispatcher
        return function.linked


register_model(_LinkedForm)(OpaqueModel)


class TwoFormDispatcher(CPUDispatcher):
    """A function in two forms, for Python and for compiled callers, each compiled where it is called.

    Args:
        *arguments: the arguments of numba's dispatcher.
        **named: those given by name.
    """

    _linked: Any = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._type = _LinkedForm(self)
        context: Any = self.typingctx
        context._remove_global(self)
        context.insert_global(self, self._type)

    @property
    def _numba_type_(self) -> Dispatcher:
        return self._type

    @property
    def linked(self) -> Any:
        """The form for compiled callers."""
        if self._linked is None:
            self._linked = self._new_linked()
        return self._linked

    def _new_linked(self) -> Any:
        function: Any = self.py_func
        copy: Any = type(function)(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__module__ = function.__module__
        # Under a name of its own, as numba would take one form for the other in its cache.
        copy.__qualname__ = f"{function.__qualname__}.linked"
        linked = CPUDispatcher(
            copy,
            targetoptions={**self.targetoptions, **_WITHOUT_WRAPPERS},
            pipeline_class=LinkedCompiler,
        )
        linked.enable_caching()
        return linked
