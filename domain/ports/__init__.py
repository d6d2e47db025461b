"""What the middle needs from the outside, as Protocols: one module for each noun or purpose.

A port holds only what a service calls. A method of a repository that reads or writes something
owned takes the viewer first, and does not find what another viewer owns. A write that depends on
what was read before returns a `Conflict` where that has changed. All of them raise `Overloaded`
where the database cannot be reached.
"""
