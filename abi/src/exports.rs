//! A guest's callbacks, resolved once for each VM.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::{
    core::Core,
    hostcalls::{Called, set_called},
    state::VmState,
    status::Direction,
};

type Func<P, R> = Option<TypedFunc<P, R>>;

/// Every callback that this host makes; `None` is absent or withheld.
pub(crate) struct Exports {
    pub(crate) initialize: Func<(), ()>,
    pub(crate) start: Func<(), ()>,
    pub(crate) main: Func<(u32, u32), u32>,
    pub(crate) main_void: Func<(), u32>,
    pub(crate) context_create: Func<(u32, u32), ()>,
    pub(crate) vm_start: Func<(u32, u32), u32>,
    pub(crate) configure: Func<(u32, u32), u32>,
    pub(crate) tick: Func<u32, ()>,
    pub(crate) done: Func<u32, u32>,
    pub(crate) log: Func<u32, ()>,
    pub(crate) delete: Func<u32, ()>,
    pub(crate) http_call_response: Func<(u32, u32, u32, u32, u32), ()>,
    /// `context_create` and `request_headers` in one go: context, root, lines, end of stream.
    pub(crate) open: Func<(u32, u32, u32, u32), u32>,
    /// `log`, `done` and `delete` in one go; 0 when `delete` is still to come.
    pub(crate) end: Func<u32, u32>,
    request: Callbacks,
    response: Callbacks,
}

/// The callbacks of one direction.
pub(crate) struct Callbacks {
    pub(crate) headers: Func<(u32, u32, u32), u32>,
    pub(crate) body: Func<(u32, u32, u32), u32>,
    pub(crate) trailers: Func<(u32, u32), u32>,
}

impl Exports {
    /// Finds the callbacks, and tells the shim those that it makes.
    ///
    /// # Errors
    ///
    /// The engine's, when a table cannot be written.
    pub(crate) fn resolve(
        store: &mut Store<VmState>,
        shim: &Instance,
        instance: &Instance,
        core: &Core,
    ) -> wasmtime::Result<Self> {
        let mut find = Finder { store: &mut *store, instance: shim, core };
        let (open, end) = (find.any("open"), find.any("end"));
        let mut find = Finder { store: &mut *store, instance, core };
        let exports = Self {
            open,
            end,
            initialize: find.any("_initialize"),
            start: find.any("_start"),
            main: find.any("main"),
            main_void: find.any("__main_void"),
            context_create: find.func("proxy_on_context_create"),
            vm_start: find.func("proxy_on_vm_start"),
            configure: find.func("proxy_on_configure"),
            tick: find.func("proxy_on_tick"),
            done: find.func("proxy_on_done"),
            log: find.func("proxy_on_log"),
            delete: find.func("proxy_on_delete"),
            http_call_response: find.func("proxy_on_http_call_response"),
            request: Callbacks {
                headers: find.func("proxy_on_request_headers"),
                body: find.func("proxy_on_request_body"),
                trailers: find.func("proxy_on_request_trailers"),
            },
            response: Callbacks {
                headers: find.func("proxy_on_response_headers"),
                body: find.func("proxy_on_response_body"),
                trailers: find.func("proxy_on_response_trailers"),
            },
        };
        let called = [
            (Called::ContextCreate, exports.context_create.as_ref().map(TypedFunc::func)),
            (Called::RequestHeaders, exports.request.headers.as_ref().map(TypedFunc::func)),
            (Called::Log, exports.log.as_ref().map(TypedFunc::func)),
            (Called::Done, exports.done.as_ref().map(TypedFunc::func)),
            (Called::Delete, exports.delete.as_ref().map(TypedFunc::func)),
        ];
        for (called, function) in called {
            set_called(store, shim, called, function.copied())?;
        }
        Ok(exports)
    }

    pub(crate) fn of(&self, direction: Direction) -> &Callbacks {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }
}

struct Finder<'a> {
    store: &'a mut Store<VmState>,
    instance: &'a Instance,
    core: &'a Core,
}

impl Finder<'_> {
    /// Types were checked when the module was loaded.
    fn func<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Func<P, R> {
        if self.core.may_call(name) { self.any(name) } else { None }
    }

    /// What the operator cannot withhold.
    fn any<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Func<P, R> {
        self.instance.get_typed_func(&mut *self.store, name).ok()
    }
}
