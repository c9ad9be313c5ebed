//! Every reason for which the codec turns a request away by itself, with its name and its status.

use http::StatusCode;

/// Writes the enum, its names and its statuses from one table.
macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident => $status:ident $name:literal,)*) => {
        /// Why the codec refused a request: the check that failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Refusal {
            $($(#[$doc])* #[error("{}", $name)] $variant,)*
        }

        impl Refusal {
            /// Every refusal, in the order of the journey through the codec.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The check's name, for the access log and the metric's label.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the client is told. What HTTP/2 answers with a frame has a status for the records only:
            /// a flood's connection is closed, a stream that is one too many is reset.
            pub fn status(&self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
        }
    };
}

refusals! {
    // The head as bytes.
    /// The head was begun and not ended in time.
    HeadTimeout => REQUEST_TIMEOUT "head_timeout",
    HeadTooLong => REQUEST_HEADER_FIELDS_TOO_LARGE "head_too_long",
    TooManyFields => REQUEST_HEADER_FIELDS_TOO_LARGE "too_many_fields",
    TargetTooLong => URI_TOO_LONG "target_too_long",
    VersionUnsupported => HTTP_VERSION_NOT_SUPPORTED "version_unsupported",
    MethodMalformed => BAD_REQUEST "method_malformed",
    RequestLineMalformed => BAD_REQUEST "request_line_malformed",
    BareLineFeed => BAD_REQUEST "bare_line_feed",
    BareCarriageReturn => BAD_REQUEST "bare_carriage_return",
    ControlCharacter => BAD_REQUEST "control_character",
    /// A field line that continues the one before.
    FoldedField => BAD_REQUEST "folded_field",
    WhitespaceBeforeColon => BAD_REQUEST "whitespace_before_colon",
    FieldNameEmpty => BAD_REQUEST "field_name_empty",
    FieldNameMalformed => BAD_REQUEST "field_name_malformed",
    /// An underscore, which some origins read as a hyphen.
    FieldNameUnderscore => BAD_REQUEST "field_name_underscore",
    /// Whatever else a field line may not be; on HTTP/2, a value that begins or ends with white space.
    FieldMalformed => BAD_REQUEST "field_malformed",
    // How long the body is.
    ContentLengthWithTransferEncoding => BAD_REQUEST "content_length_with_transfer_encoding",
    ContentLengthRepeated => BAD_REQUEST "content_length_repeated",
    ContentLengthMalformed => BAD_REQUEST "content_length_malformed",
    TransferEncodingRepeated => BAD_REQUEST "transfer_encoding_repeated",
    TransferEncodingUnsupported => NOT_IMPLEMENTED "transfer_encoding_unsupported",
    TransferEncodingOnHttp10 => BAD_REQUEST "transfer_encoding_on_http10",
    // For whom it is.
    HostMissing => BAD_REQUEST "host_missing",
    HostRepeated => BAD_REQUEST "host_repeated",
    HostList => BAD_REQUEST "host_list",
    HostUserinfo => BAD_REQUEST "host_userinfo",
    HostPort => BAD_REQUEST "host_port",
    HostMalformed => BAD_REQUEST "host_malformed",
    /// Host and the target (or `:authority`) name two places.
    HostMismatch => BAD_REQUEST "host_mismatch",
    // The target.
    ConnectRefused => NOT_IMPLEMENTED "connect_refused",
    AsteriskWithoutOptions => BAD_REQUEST "asterisk_without_options",
    SchemeUnsupported => BAD_REQUEST "scheme_unsupported",
    TargetMalformed => BAD_REQUEST "target_malformed",
    TargetFragment => BAD_REQUEST "target_fragment",
    TargetBackslash => BAD_REQUEST "target_backslash",
    TargetNotAscii => BAD_REQUEST "target_not_ascii",
    PathEscapeMalformed => BAD_REQUEST "path_escape_malformed",
    PathNul => BAD_REQUEST "path_nul",
    /// `%2F` or `%5C`.
    PathEncodedSlash => BAD_REQUEST "path_encoded_slash",
    /// A dot segment with parameters (`/..;x/`), which some origins resolve.
    PathDotParameters => BAD_REQUEST "path_dot_parameters",
    // What is asked of this hop.
    ExpectUnsupported => EXPECTATION_FAILED "expect_unsupported",
    /// `Connection` names a field that belongs to the message, to have it removed.
    ConnectionNamesField => BAD_REQUEST "connection_names_field",
    /// A field that only HTTP/1 has, on HTTP/2.
    ConnectionSpecificField => BAD_REQUEST "connection_specific_field",
    UpgradeWithBody => BAD_REQUEST "upgrade_with_body",
    /// The journey answered 101 to a request that did not ask for it, or gave no tunnel.
    SwitchUnasked => BAD_GATEWAY "switch_unasked",
    /// The journey, or the answer's body, panicked: that request ends, and no other.
    Panicked => INTERNAL_SERVER_ERROR "panicked",
    // The body.
    ChunkSizeMalformed => BAD_REQUEST "chunk_size_malformed",
    ChunkExtensionMalformed => BAD_REQUEST "chunk_extension_malformed",
    ChunkExtensionTooLong => BAD_REQUEST "chunk_extension_too_long",
    ChunkEndMalformed => BAD_REQUEST "chunk_end_malformed",
    TrailersTooLong => REQUEST_HEADER_FIELDS_TOO_LARGE "trailers_too_long",
    TrailerMalformed => BAD_REQUEST "trailer_malformed",
    /// A field that frames, routes or authenticates, sent where nobody looks for it.
    TrailerForbidden => BAD_REQUEST "trailer_forbidden",
    /// HTTP/2 DATA of another length than `content-length`, or another breach that h2 found.
    StreamMalformed => BAD_REQUEST "stream_malformed",
    // HTTP/2 frames.
    /// What a client says first is not SETTINGS.
    PrefaceMalformed => BAD_REQUEST "preface_malformed",
    /// The heads of all requests that run on the connection are together too long.
    LiveHeadsTooLong => REQUEST_HEADER_FIELDS_TOO_LARGE "live_heads_too_long",
    PingFlood => TOO_MANY_REQUESTS "ping_flood",
    SettingsFlood => TOO_MANY_REQUESTS "settings_flood",
    PriorityFlood => TOO_MANY_REQUESTS "priority_flood",
    WindowUpdateFlood => TOO_MANY_REQUESTS "window_update_flood",
    ResetFlood => TOO_MANY_REQUESTS "reset_flood",
    ContinuationFlood => TOO_MANY_REQUESTS "continuation_flood",
}
