FROM scratch AS Base
ENV \
  a b
MAINTAINER me
EXPOSE foo
