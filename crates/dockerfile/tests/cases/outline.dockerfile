# GO is the go version
ARG GO=1.2
# base is the
# base stage
FROM scratch AS base
# foo is a thing
# second line
ARG foo=1 bar
# unrelated
ARG baz=$foo
ARG GO
FROM scratch AS other
ARG inother=2
RUN --mount=type=secret,id=os --mount=type=cache,target=/oc x
# rel is the release
FROM base AS rel
ARG TARGETPLATFORM
ARG rel="a b"
COPY --from=other a b
RUN --mount=type=secret,id=s1 --mount=type=secret,id=s2,required --mount=type=ssh --mount=type=ssh,id=x,required=true --mount=type=cache,target=/c --mount=type=cache,target=/d,id=dd --mount=type=secret,target=/foo/bar --mount=type=secret,id=e,env=EE x
FROM --platform=$BUILDPLATFORM scratch
