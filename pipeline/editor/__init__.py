"""The canvas editor: one ES module, and the host that runs a session's steps for it."""
