;; Between a guest and the host functions that give it data.
;;
;; Such a function needs memory from the guest's allocator in the middle of the hostcall. A host
;; function could enter the guest again only on a second stack, for ten times the price; here the
;; host is asked what it would give, the allocator is called as any function, and the host hands
;; over what it promised.
;;
;; It also makes the callbacks that always follow one another, for which the host would enter the
;; guest one by one: a context's creation with its request's head, and a context's end.
;;
;; What the host answers: more than 0, so many bytes are wanted; 0, done; less, minus the status.
(module
  (import "host" "proxy_get_buffer_bytes"
    (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "host" "proxy_get_header_map_pairs"
    (func $pairs (param i32 i32 i32) (result i32)))
  (import "host" "proxy_get_header_map_value"
    (func $value (param i32 i32 i32 i32 i32) (result i32)))
  (import "host" "proxy_get_status"
    (func $status (param i32 i32 i32) (result i32)))
  (import "host" "proxy_get_shared_data"
    (func $shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "host" "proxy_get_property"
    (func $property (param i32 i32 i32 i32) (result i32)))
  (import "host" "proxy_call_foreign_function"
    (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "host" "hand_over" (func $hand_over (param i32) (result i32)))

  (type $allocator (func (param i32) (result i32)))
  (type $create (func (param i32 i32)))
  (type $headers (func (param i32 i32 i32) (result i32)))
  (type $of_context (func (param i32)))
  (type $done (func (param i32) (result i32)))
  ;; What is called of the guest; null is absent or withheld.
  ;; 0 allocator, 1 context_create, 2 request_headers, 3 log, 4 done, 5 delete
  (table (export "guest") 6 6 funcref)

  (func $has (param $function i32) (result i32)
    (i32.eqz (ref.is_null (table.get (local.get $function)))))

  ;; The answer is that of request_headers, which is there.
  (func (export "open") (param $id i32) (param $root i32) (param $lines i32) (param $end i32)
    (result i32)
    (if (call $has (i32.const 1))
      (then
        (call_indirect (type $create)
          (local.get $id) (local.get $root) (i32.const 1))))
    (call_indirect (type $headers)
      (local.get $id) (local.get $lines) (local.get $end) (i32.const 2)))

  ;; The answer is 0 when the guest puts the end off: then delete is still to come.
  (func (export "end") (param $id i32) (result i32)
    (if (call $has (i32.const 3))
      (then (call_indirect (type $of_context) (local.get $id) (i32.const 3))))
    (if (call $has (i32.const 4))
      (then
        (if (i32.eqz
            (call_indirect (type $done) (local.get $id) (i32.const 4)))
          (then (return (i32.const 0))))))
    (if (call $has (i32.const 5))
      (then (call_indirect (type $of_context) (local.get $id) (i32.const 5))))
    (i32.const 1))

  (func $give (param $wanted i32) (result i32)
    (if (result i32) (i32.gt_s (local.get $wanted) (i32.const 0))
      (then
        (call $hand_over
          (call_indirect (type $allocator) (local.get $wanted) (i32.const 0))))
      (else
        (i32.sub (i32.const 0) (local.get $wanted)))))

  (func (export "proxy_get_buffer_bytes") (param i32 i32 i32 i32 i32) (result i32)
    (call $give (call $buffer
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
  (func (export "proxy_get_header_map_pairs") (param i32 i32 i32) (result i32)
    (call $give (call $pairs (local.get 0) (local.get 1) (local.get 2))))
  (func (export "proxy_get_header_map_value") (param i32 i32 i32 i32 i32) (result i32)
    (call $give (call $value
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
  (func (export "proxy_get_status") (param i32 i32 i32) (result i32)
    (call $give (call $status (local.get 0) (local.get 1) (local.get 2))))
  (func (export "proxy_get_shared_data") (param i32 i32 i32 i32 i32) (result i32)
    (call $give (call $shared
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4))))
  (func (export "proxy_get_property") (param i32 i32 i32 i32) (result i32)
    (call $give (call $property
      (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
  (func (export "proxy_call_foreign_function") (param i32 i32 i32 i32 i32 i32) (result i32)
    (call $give (call $foreign
      (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5)))))
