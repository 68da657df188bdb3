"""What schemathesis does not know by itself: pieces of uploads are bytes."""

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
