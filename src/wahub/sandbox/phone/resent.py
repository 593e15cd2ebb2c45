"""Messages that a companion could not read and asked its own phone for, as the phone hands them over.

Source: Baileys Socket/messages-recv (`requestPlaceholderResend`) and Utils/process-message
(PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE), whatsmeow message.go (`handlePlaceholderResendResponse`).
"""

from __future__ import annotations

from collections.abc import Sequence

from wahub.sandbox.model import is_shared
from wahub.sandbox.phone.directory import Directory
from wahub.sandbox.phone.state import Kept
from wahub.sandbox.proto import e2e_pb2


def resent(request_id: str, wanted: Sequence[Kept | None], directory: Directory) -> e2e_pb2.Message:
    """The answer to a request: a result for each message that was asked for, an empty one when the phone has it not."""
    answer = e2e_pb2.PeerDataOperationResponse(type=e2e_pb2.PLACEHOLDER_MESSAGE_RESEND, stanza_id=request_id)
    for kept in wanted:
        result = answer.results.add()
        if kept is not None:
            result.resent.web_message_info = _info(kept, directory).SerializeToString()
    protocol = e2e_pb2.ProtocolMessage(
        type=e2e_pb2.ProtocolMessage.PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE, peer_data_operation_response=answer
    )
    return e2e_pb2.Message(protocol_message=protocol)


def _info(kept: Kept, directory: Directory) -> e2e_pb2.WebMessageInfo:
    chat = directory.chat_jid(kept.chat, kept.server)
    key = e2e_pb2.MessageKey(remote_jid=str(chat), from_me=kept.from_me, id=kept.message_id)
    info = e2e_pb2.WebMessageInfo(key=key, message=e2e_pb2.Message.FromString(kept.message), message_timestamp=kept.at)
    if is_shared(chat):
        author = str(directory.jid_of(kept.author, kept.server))
        info.key.participant = author
        info.participant = author
    return info
